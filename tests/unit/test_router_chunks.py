"""What a provider's stream says, taken line by line."""

from __future__ import annotations

import json

import pytest

from services.router.models import End
from services.router.models.chunks import Chunks
from soma.common.v1.model_pb2 import Usage

TEXT = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n'


def end_of(usage: object) -> End:
    """The end of an answer with these figures, of a model with a window of 1,000 tokens."""
    answer = Chunks("acme", "gpt-x", 1000)
    said = answer.take(TEXT + b'data: {"choices": [], "usage": %s}\ndata: [DONE]\n' % json.dumps(usage).encode())
    assert (list(said), answer.broken, answer.is_over) == (["hi"], None, True)
    return answer.end()


ABSURD = [-5, 4001, 2**31, 10**30, "many", 1.5, None]


@pytest.mark.parametrize("tokens", ABSURD)
@pytest.mark.parametrize("which", ["prompt_tokens", "completion_tokens"])
def test_figures_that_cannot_be_are_none(which: str, tokens: object) -> None:
    assert end_of({"prompt_tokens": 7, "completion_tokens": 1, which: tokens}) == End("stop")


@pytest.mark.parametrize("usage", [None, {}, [], "no", 7, {"prompt_tokens": 0, "completion_tokens": 0}], ids=str)
def test_without_figures_there_are_none(usage: object) -> None:
    assert end_of(usage) == End("stop")


def test_tokens_of_caches_and_thoughts_are_parts_of_the_whole() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    whole = Usage(input_tokens=100, output_tokens=50, cached_input_tokens=60, reasoning_tokens=40)
    assert end_of(usage) == End("stop", whole)


@pytest.mark.parametrize("cached", [-1, 101])
def test_a_part_that_is_larger_than_the_whole_is_dropped(cached: int) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": cached}}
    assert end_of(usage) == End("stop", Usage(input_tokens=100, output_tokens=50))


def test_texts_of_one_read_are_one_piece() -> None:
    answer = Chunks("acme", "gpt-x", 1000)
    assert list(answer.take(b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n' * 64)) == ["hi" * 64]
