"""What a provider's stream says, taken line by line."""

from __future__ import annotations

import pytest

from services.router.models.chunks import Arriving, take


@pytest.mark.parametrize("tokens", [-5, 2**31, 10**30])
def test_figures_that_cannot_be_are_none(tokens: int) -> None:
    answer = Arriving()
    said = take(
        answer,
        b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n'
        b'data: {"usage": {"prompt_tokens": %d, "completion_tokens": 1}}\n'
        b"data: [DONE]\n" % tokens,
        "acme",
    )

    assert (said, answer.broken) == ("hi", None)
    assert (answer.end().input_tokens, answer.end().output_tokens) == (None, None)
