"""What a provider's stream says, taken line by line."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from services.router.models import Broken, End, Piece
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


def delta(**said: object) -> str:
    return json.dumps({"choices": [{"delta": said}]})


LAST = json.dumps({"choices": [{"delta": {"content": "!"}, "finish_reason": "stop"}]})
FINE = [delta(content=f"{n}") for n in range(8)]
COUNTED = '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'
READS = {
    "all well": [*FINE, LAST, COUNTED, "[DONE]"],
    "the last one twice": [*FINE, LAST, LAST, "[DONE]"],
    "done in the middle": [*FINE[:4], LAST, "[DONE]", *FINE[4:]],
    "without end": FINE,
    "an error in the middle": [*FINE[:4], '{"error": {"message": "unwell"}}', *FINE[4:]],
    "rubbish in the middle": [*FINE[:4], "{", *FINE[4:]],
    "one in two lines": [*FINE[:4], '{"choices": []', '"usage": null}', *FINE[4:]],
    "two in one line": [*FINE[:4], f"{FINE[4]},{FINE[5]}", *FINE[6:]],
    "nothing in a line": [*FINE[:4], "", *FINE[4:]],
    "a null": [*FINE[:4], "null", *FINE[4:]],
    "half a character": [*FINE[:4], delta(content="\ud83d"), *FINE[4:]],
    "tools and thoughts": [
        *FINE[:2], delta(reasoning="hm", content="a"), delta(tool_calls=[{"id": "c", "function": {"name": "f"}}]),
        delta(tool_calls=[{"id": "c", "function": {"arguments": "{}"}}]), *FINE[2:], LAST,
    ],
}  # fmt: skip


def heard(reads: Sequence[Sequence[str]]) -> tuple[list[Piece], str | None, str, bool, object]:
    """All that an answer says and comes to, its lines read so."""
    answer, said = Chunks("acme", "gpt-x", 1000), list[Piece]()
    for read in reads:
        said += answer.take("".join(f"data: {line}\n\n" for line in read).encode())
        if answer.broken or answer.is_over:
            break
    broken = answer.broken.sentence if answer.broken else None
    texts = [piece if isinstance(piece, str) else repr(piece) for piece in said]
    return ["".join(texts)], broken, answer.finish_reason, answer.is_over, answer.usage()


@pytest.mark.parametrize("manner", READS)
def test_lines_of_one_read_mean_what_they_mean_one_by_one(manner: str) -> None:
    lines = READS[manner]
    assert heard([lines]) == heard([[line] for line in lines])


def test_an_answer_in_one_piece_that_says_nothing_is_none() -> None:
    with pytest.raises(Broken, match="acme sent no answer"):
        Chunks("acme", "gpt-x", 1000).take_whole(b'{"choices": [{"message": {"content": ""}}]}')
