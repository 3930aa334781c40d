"""Tools for a model that knows none: what it is asked in their place, and what its words mean."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from services.router.answer import Answer
from services.router.models import Broken, End
from services.router.window import size_of
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, ResponseFormat, Sampling, Tool, ToolCall, ToolCallDelta, Tools
from tests.doors.openai_wire import Bench, chunks, open_bench
from tests.fake_provider import Behaviour

PLACE = {"type": "object", "properties": {"in": {"$ref": "#/$defs/City"}}, "$defs": {"City": {"type": "string"}}}
WEATHER = Tool(name="weather", description="The weather.", parameters=json.dumps(PLACE))
NOW = Tool(name="now")
QUESTION = Message(role="user", text="Oslo?")
CALLED = Message(role="assistant", tool_calls=[ToolCall(id="a", name="weather", arguments='{"in":"Oslo"}')])
ANSWERED = Message(role="tool", tool_call_id="a", text="rain")
CALL = '{"tool": "weather", "arguments": {"in": "Oslo"}}'


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


class Told:
    """One question with tools, and all that came of it."""

    def __init__(self, bench: Bench, says: str | Behaviour, *messages: Message, **request: Any) -> None:
        self.bench, self.pieces = bench, list[object]()
        bench.provider.behaviour = chunks({"content": says}) if isinstance(says, str) else says
        choice, whole = request.pop("choice", ""), request.pop("whole", False)
        tools = Tools(tools=request.pop("tools", [WEATHER, NOW]), choice=choice)
        prompt = bench.prompt(request=GenerateRequest(messages=messages or [QUESTION], tools=tools, **request))
        self.prompt = replace(prompt, offer=replace(prompt.offer, traits=frozenset({"tools_as_json"})), whole=whole)

    async def heard(self) -> Told:
        self.pieces = [piece async for piece in self.bench.adapter.stream(self.prompt)]
        return self

    @property
    def asked(self) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self.bench.provider.last
        return body

    @property
    def forms(self) -> list[list[str]]:
        """What the answer may be, by the names of its fields; a call with its tool."""
        options = self.asked["response_format"]["json_schema"]["schema"]["anyOf"]
        return [[form["properties"].get("tool", {}).get("const", ""), *form["required"]] for form in options]


def a_call(piece: object) -> tuple[str, Any]:
    assert isinstance(piece, ToolCallDelta)
    assert piece.id
    return piece.name, json.loads(piece.arguments)


async def test_a_call_is_read_back_and_ends_the_answer(bench: Bench) -> None:
    call, end = (await Told(bench, CALL).heard()).pieces
    assert a_call(call) == ("weather", {"in": "Oslo"})
    assert isinstance(end, End)
    assert end.finish_reason == "tool_calls"


async def test_a_reply_is_the_text(bench: Bench) -> None:
    text, end = (await Told(bench, '{"reply": "It rains."}').heard()).pieces
    assert text == "It rains."
    assert isinstance(end, End)
    assert end.finish_reason == "stop"


@pytest.mark.parametrize(
    ("choice", "forms"),
    [
        ("", [["weather", "tool", "arguments"], ["now", "tool", "arguments"], ["", "reply"]]),
        ("auto", [["weather", "tool", "arguments"], ["now", "tool", "arguments"], ["", "reply"]]),
        ("required", [["weather", "tool", "arguments"], ["now", "tool", "arguments"]]),
        ("tool:now", [["now", "tool", "arguments"]]),
    ],
)
async def test_the_answer_is_held_to_what_is_wanted(bench: Bench, choice: str, forms: list[list[str]]) -> None:
    told = await Told(bench, '{"tool": "now", "arguments": {}}', choice=choice).heard()
    assert told.forms == forms
    assert not {"tools", "tool_choice"} & set(told.asked)
    assert told.asked["messages"][0]["role"] == "system"
    assert all(form[0] in told.asked["messages"][0]["content"] for form in forms)


async def test_a_schema_finds_what_it_refers_to_in_itself(bench: Bench) -> None:
    told = await Told(bench, CALL, tools=[NOW, WEATHER]).heard()
    defs = told.asked["response_format"]["json_schema"]["schema"]["$defs"]
    assert defs["1"]["properties"]["in"] == {"$ref": "#/$defs/1/$defs/City"}
    assert defs["1"]["$defs"]["City"] == {"type": "string"}


async def test_after_a_tools_answer_comes_the_models_own_as_it_is_made(bench: Bench) -> None:
    told = await Told(bench, chunks({"content": "It "}, {"content": "rains."}), QUESTION, CALLED, ANSWERED).heard()
    assert "".join(piece for piece in told.pieces if isinstance(piece, str)) == "It rains."
    assert "response_format" not in told.asked
    assert [(m["role"], m["content"]) for m in told.asked["messages"]] == [
        ("user", "Oslo?"),
        ("assistant", '{"tool": "weather", "arguments": {"in":"Oslo"}}'),
        ("user", "weather answered: rain"),
    ]


async def test_after_a_tools_answer_a_call_that_is_forced_is_made(bench: Bench) -> None:
    told = await Told(bench, CALL, QUESTION, CALLED, ANSWERED, choice="required").heard()
    assert a_call(told.pieces[0]) == ("weather", {"in": "Oslo"})


async def test_a_reply_keeps_to_the_shape_that_the_request_asks_for(bench: Bench) -> None:
    shape = ResponseFormat(kind="json_schema", name="sky", schema='{"type": "object", "properties": {"wet": {}}}')
    told = await Told(bench, '{"reply": {"wet": true}}', response_format=shape).heard()
    assert told.pieces[0] == '{"wet":true}'
    assert told.asked["response_format"]["json_schema"]["schema"]["$defs"]["reply"]["properties"] == {"wet": {}}


@pytest.mark.parametrize("whole", [False, True])
async def test_who_asked_for_one_piece_has_the_call_too(bench: Bench, whole: bool) -> None:
    said = json.dumps({"choices": [{"message": {"content": CALL}, "finish_reason": "stop"}]})
    told = await Told(
        bench, Behaviour(raw=said, content_type="application/json") if whole else CALL, whole=whole
    ).heard()
    assert a_call(told.pieces[0]) == ("weather", {"in": "Oslo"})


async def test_what_was_cut_at_its_length_is_no_call(bench: Bench) -> None:
    (end,) = (await Told(bench, chunks({"content": CALL[:20]}, finish="length")).heard()).pieces
    assert isinstance(end, End)
    assert end.finish_reason == "length"


async def test_a_reply_ends_at_a_stop_text_which_the_model_is_not_told(bench: Bench) -> None:
    told = await Told(bench, '{"reply": "It rains} here."}', sampling=Sampling(stop=["}"])).heard()
    assert told.pieces[0] == "It rains"
    assert "stop" not in told.asked


NEITHER = ["It rains.", '{"tool": 1}', "[" * 100_000, "{}", '{"tool": "other", "arguments": {}}', '{"name": "now"}']


@pytest.mark.parametrize("says", [*NEITHER, '{"tool": "weather", "arguments": "Oslo"}'])
async def test_what_is_neither_call_nor_reply_is_broken(bench: Bench, says: str) -> None:
    with pytest.raises(Broken, match="neither"):
        await Told(bench, says).heard()


@pytest.mark.parametrize(
    "request_", [{"choice": "tool:other"}, {"tools": [Tool(name="now", parameters="[]")]}], ids=["tool", "schema"]
)
async def test_what_cannot_be_asked_is_refused_and_blames_no_model(bench: Bench, request_: dict[str, Any]) -> None:
    with pytest.raises(Broken) as broken:
        await Told(bench, CALL, **request_).heard()
    assert (broken.value.reason, broken.value.blames_model) == ("REQUEST_INVALID", False)


async def test_a_reply_where_a_call_is_forced_is_broken(bench: Bench) -> None:
    with pytest.raises(Broken, match="neither"):
        await Told(bench, '{"reply": "It rains."}', choice="required").heard()


@pytest.mark.parametrize("request_", [{"choice": "none"}, {"tools": []}], ids=["none", "no tools"])
async def test_tools_that_must_not_be_called_are_not_told_of(bench: Bench, request_: dict[str, Any]) -> None:
    told = await Told(bench, "It rains.", QUESTION, CALLED, ANSWERED, QUESTION, **request_).heard()
    assert told.pieces[0] == "It rains."
    assert not {"tools", "tool_choice", "response_format"} & set(told.asked)
    assert [m["role"] for m in told.asked["messages"]] == ["user", "assistant", "user", "user"]


@pytest.mark.parametrize(("choice", "taught"), [("", False), ("none", True)])
async def test_an_answer_that_may_be_a_call_teaches_nothing_of_first_texts(
    bench: Bench, choice: str, taught: bool
) -> None:
    prompt = Told(bench, CALL, choice=choice).prompt
    offer = replace(prompt.offer, provider=replace(prompt.offer.provider, whole=True))
    answer = Answer(prompt.request, size_of(prompt.messages), Decision(), offer, began=0.0)
    answer.add("It rains.", 8.0)
    assert (answer.first_token_ms, answer.prompt().whole) == (8000 if taught else 0, not taught)
