"""Answers in one piece, of providers that misbehave over a real socket: the same faults hold as of streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from services.router.models import Broken, End, Reasoning, Refusing
from services.router.models.anthropic import Anthropic
from services.router.models.conversing import open_session
from services.router.models.openai import OpenAI
from services.router.offers import Limits
from soma.common.v1.model_pb2 import Usage
from soma.router.v1.routing_pb2 import ToolCallDelta
from tests.asking_models import PATIENT, Model
from tests.fake_provider import Behaviour, open_fake_provider, said

LIMITS = Limits(first_text_s=0.1, idle_s=0.3, total_s=30)
"""For tests whose subject is silence."""


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with open_fake_provider() as fake, open_session() as session:
        adapter = OpenAI(session)
        yield Model(adapter, fake, "openai", PATIENT, whole=True)


@pytest.fixture
def claude(model: Model) -> Model:
    assert not isinstance(model.adapter, Anthropic)
    return replace(model, adapter=Anthropic(model.adapter.session), kind="anthropic")  # type: ignore[attr-defined]


def body(message: dict[str, object], **fields: object) -> Behaviour:
    """An answer with this message."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return raw(json.dumps({"choices": [choice]} | fields))


def raw(text: str, content_type: str = "application/json") -> Behaviour:
    return Behaviour(raw=text, content_type=content_type)


def calls(*told: tuple[str | None, str | None, Any]) -> Behaviour:
    """An answer that calls tools: id, name and arguments of each."""
    made = [{"id": id, "type": "function", "function": {"name": n, "arguments": given}} for id, n, given in told]
    return body({"role": "assistant", "content": None, "tool_calls": made})


WELL = [
    Behaviour(),
    Behaviour(comments=True, wait_ms=200),
    Behaviour(split_bytes=7),
    Behaviour(usage=False),
    Behaviour(finish=""),
    Behaviour(words=20_000),
]


@pytest.mark.parametrize("behaviour", WELL, ids=str)
async def test_a_good_answer_is_one_piece_and_its_end(model: Model, behaviour: Behaviour) -> None:
    if behaviour.wait_ms:
        model.limits = LIMITS
    pieces, end = await model.ask(behaviour)
    assert pieces == [said(behaviour)]
    usage = Usage(input_tokens=11, output_tokens=behaviour.words) if behaviour.usage else None
    assert end == End("stop", usage)
    asked = model.fake.last
    assert (asked["stream"], "stream_options" in asked, model.fake.headers["Accept"]) == (
        False, False, "application/json",
    )  # fmt: skip


async def test_a_slow_provider_has_the_time_of_a_whole_answer(model: Model) -> None:
    model.limits = LIMITS
    pieces, end = await model.ask(Behaviour(words=8, pace_ms=60))
    assert pieces == [said(Behaviour())] and isinstance(end, End)
    assert LIMITS.first_text_s < LIMITS.idle_s < 8 * 0.060


async def test_blank_lines_are_no_beginning_and_no_end(model: Model) -> None:
    model.limits = LIMITS
    pieces, end = await model.ask(Behaviour(comments=True, wait_ms=300, pace_ms=60))
    assert pieces == [said(Behaviour())] and isinstance(end, End)


async def test_a_body_that_stalls_is_given_up_after_its_silence(model: Model) -> None:
    model.limits = LIMITS
    began = time.monotonic()
    broken = await model.broken(Behaviour(hang_after=3))
    assert broken.sentence == "acme fell silent." and broken.blames_model
    assert LIMITS.idle_s <= time.monotonic() - began < LIMITS.total_s


@pytest.mark.parametrize("silence", [Behaviour(wait_ms=60_000), Behaviour(wait_ms=60_000, comments=True)], ids=str)
async def test_an_answer_that_does_not_come_is_waited_for_until_its_time_is_over(
    model: Model, silence: Behaviour
) -> None:
    model.limits = replace(LIMITS, total_s=0.6)
    began = time.monotonic()
    await model.broken(silence)
    assert 0.6 <= time.monotonic() - began < 10


NESTED = '{"error": ' + "[" * 200_000
FAULTS = {
    "status 500": Behaviour(status=500),
    "key": Behaviour(status=401),
    "status 404": Behaviour(status=404),
    "broke the connection": Behaviour(cut_after=3),
    "sent something that is no answer": Behaviour(rubbish="html"),
    "something that is no answer": Behaviour(rubbish="text"),
    "that is no answer": Behaviour(rubbish="half-json"),
    "is no answer": Behaviour(rubbish="wrong-shape"),
    "no answer.": raw(NESTED),
    "error of its own": Behaviour(rubbish="error"),
    "acme sent no answer": raw("{}"),
    "sent no answer": raw('{"choices": []}'),
    "an error of its own": body({"content": "half"}, error={"message": "I am unwell"}),
    "larger than 4,194,304 bytes": raw('{"choices": "' + "x" * 5_000_000),
    "acme ended the answer in the middle": raw('data: {"choices": []}\n\n', "text/event-stream"),
    "reported an error of its own": raw('data: {"error": {"message": "unwell"}}\n\n', "text/event-stream"),
}


@pytest.mark.parametrize("sentence", FAULTS)
async def test_a_fault_is_told_in_a_sentence_and_nothing_was_said(model: Model, sentence: str) -> None:
    pieces, broken = await model.ask(FAULTS[sentence])
    assert pieces == []
    assert isinstance(broken, Broken) and sentence in broken.sentence and broken.blames_model


@pytest.mark.parametrize("error", [{"code": 429}, {"type": "rate_limit_exceeded"}, {"message": "Overloaded"}], ids=str)
async def test_an_error_inside_of_a_200_is_an_error(model: Model, error: dict[str, object]) -> None:
    broken = await model.broken(raw(json.dumps({"error": error})))
    assert (broken.reason, broken.blames_model) == ("MODEL_BUSY", False)


async def test_a_request_that_is_too_long_is_the_callers_fault(model: Model) -> None:
    broken = await model.broken(raw('{"error": {"code": "context_length_exceeded"}}'))
    assert (broken.reason, broken.blames_model) == ("CONTEXT_TOO_LONG", False)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5, "completion_tokens": 1}, {"prompt_tokens": 10**9}, "no", []])
async def test_absurd_figures_are_none(model: Model, usage: object) -> None:
    assert await model.ask(body({"content": "hi"}, usage=usage)) == (["hi"], End("stop"))


async def test_reasoning_stands_before_text_and_refusal_after_it(model: Model) -> None:
    pieces, _ = await model.ask(body({"content": "A", "reasoning": "Hm", "refusal": "No"}))
    assert pieces == [Reasoning("Hm"), "A", Refusing("No")]


async def test_each_call_of_a_tool_is_one_whatever_its_id(model: Model) -> None:
    pieces, end = await model.ask(calls(("x", "see", "{}"), ("x", "see", "{}"), (None, "hear", {"a": 1})))
    made = [(p.index, p.name, p.arguments) for p in pieces if isinstance(p, ToolCallDelta)]
    assert made == [(0, "see", "{}"), (1, "see", "{}"), (2, "hear", '{"a":1}')]
    assert isinstance(end, End) and end.finish_reason == "tool_calls"


TOO_MUCH = {
    "larger than 256 KiB": calls(("a", "see", '"' + "x" * 300_000)),
    "more than 128 tools": calls(*((f"c{n}", "see", "{}") for n in range(129))),
    "without a name": calls(("a", None, "{}")),
}


@pytest.mark.parametrize("sentence", TOO_MUCH)
async def test_tool_calls_that_are_too_much_break_the_answer(model: Model, sentence: str) -> None:
    assert sentence in (await model.broken(TOO_MUCH[sentence])).sentence


async def test_a_text_is_cut_at_its_bound_between_characters(model: Model) -> None:
    model = replace(model, adapter=replace(model.adapter, most_answer_bytes=1001))  # type: ignore[type-var]
    pieces, end = await model.ask(body({"content": "é" * 2000}))
    assert pieces == ["é" * 500]
    assert isinstance(end, End) and end.finish_reason == "length"


async def test_bytes_that_are_no_utf8_become_replacement_characters(model: Model) -> None:
    pieces, end = await model.ask(Behaviour(words=3, bad_utf8=True))
    assert pieces == ["word1 word2 word3\ufffd"] and isinstance(end, End)


async def test_another_model_in_its_place_is_noticed(model: Model) -> None:
    await model.ask(Behaviour(model="gpt-7"))
    assert model.adapter.notices == {("acme", "gpt-x", "gpt-7")}  # type: ignore[attr-defined]


async def test_whoever_stops_listening_hangs_up_on_the_provider(model: Model) -> None:
    model.fake.behaviour = Behaviour(wait_ms=60_000)
    async with aclosing(model.adapter.stream(model.prompt())) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(20):
            while not model.fake.asked:
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(20):
        while not model.fake.hung_up:
            await asyncio.sleep(0.01)


async def test_answers_one_after_the_other_use_one_connection(model: Model) -> None:
    for _ in range(5):
        await model.ask(Behaviour(words=2000))
    assert len(model.fake.connections) == 1


CLAUDE_FAULTS = {
    "reported an error of its own": '{"type": "error", "error": {"type": "api_error", "message": "unwell"}}',
    "sent no answer": "{}",
    "something that is no answer": '{"content": "no"}',
    "is no answer": '{"content": [',
}


@pytest.mark.parametrize("sentence", CLAUDE_FAULTS)
async def test_a_fault_on_the_other_wire_is_told_too(claude: Model, sentence: str) -> None:
    assert sentence in (await claude.broken(raw(CLAUDE_FAULTS[sentence]))).sentence
    assert claude.fake.last["stream"] is False


async def test_on_the_other_wire_an_overloaded_provider_is_busy(claude: Model) -> None:
    broken = await claude.broken(raw('{"type": "error", "error": {"type": "overloaded_error"}}'))
    assert (broken.reason, broken.blames_model) == ("MODEL_BUSY", False)
