"""The adapter for Anthropic's messages: what it asks, and what it makes of faults, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.router.models import End
from services.router.models.anthropic import Anthropic
from services.router.models.conversing import open_session
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import (
    Image,
    Message,
    Part,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
    ToolCallDelta,
    Tools,
)
from tests.asking_models import Model
from tests.fake_provider import Behaviour, open_fake_provider

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
WEATHER = Tool(name="get_weather", description="Looks out.", parameters=json.dumps(SCHEMA), strict=True)
SHAPE = ResponseFormat(kind="json_schema", name="person", schema=json.dumps(SCHEMA))
SHAPE_TOOL = {"name": "person", "description": "Gives the answer, in this shape.", "input_schema": SCHEMA}
HELLO = Message(role="user", text="Hello")


def stream(*events: dict[str, Any]) -> Behaviour:
    return Behaviour(raw="".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events))


START = {"type": "message_start", "message": {"model": "gpt-x", "usage": {"input_tokens": 3, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def stopped(reason: str) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


WELL = stream(START, text("Hi"), stopped("end_turn"), STOP)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with open_fake_provider() as fake, open_session() as session:
        yield Model(Anthropic(session), fake, "anthropic")


async def asked(model: Model, **fields: Any) -> dict[str, Any]:
    """What the provider is asked for such a request, but for what each question has."""
    fields.setdefault("messages", [HELLO])
    _, end = await model.ask(WELL, GenerateRequest(**fields))
    assert isinstance(end, End)
    usual = {"model": "gpt-x", "max_tokens": 4096, "stream": True}
    return {name: value for name, value in model.fake.last.items() if usual.get(name) != value}


async def test_key_and_version_stand_in_the_headers(model: Model) -> None:
    await asked(model)
    assert model.fake.headers["x-api-key"] == "sk-1"
    assert model.fake.headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in model.fake.headers


async def test_a_conversation_with_pictures_and_tools_is_worded_in_blocks(model: Model) -> None:
    picture = Part(image=Image(url="data:image/png;base64,aGk="))
    told = await asked(
        model,
        messages=[
            Message(role="system", text="Be kind."),
            Message(role="user", text="Look", parts=[picture, Part(image=Image(url="https://a.example/b.png"))]),
            Message(
                role="assistant", text="Hm", tool_calls=[ToolCall(id="call:1", name="get_weather", arguments="{}")]
            ),
            Message(role="tool", tool_call_id="call:1", text="rain"),
            Message(role="user", text="So?"),
        ],
        tools=Tools(tools=[WEATHER]),
    )
    assert told == {
        "system": "Be kind.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Hm"},
                    {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [{"name": "get_weather", "description": "Looks out.", "input_schema": SCHEMA}],
    }


CHOICES = [
    ("auto", None, {"type": "auto"}),
    ("none", False, {"type": "none"}),
    ("required", None, {"type": "any"}),
    ("tool:get_weather", False, {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}),
    ("", False, {"type": "auto", "disable_parallel_tool_use": True}),
    ("", None, None),
]


@pytest.mark.parametrize(("choice", "parallel", "told"), CHOICES)
async def test_the_choice_of_tools_is_worded(model: Model, choice: str, parallel: bool | None, told: Any) -> None:
    said = await asked(model, tools=Tools(tools=[WEATHER], choice=choice, parallel=parallel))
    assert said.get("tool_choice") == told


SAMPLED = [
    (Sampling(temperature=1.7), {"temperature": 1.0}),
    (Sampling(temperature=0.2, top_p=0.9), {"temperature": 0.2}),
    (Sampling(top_p=0.9), {"top_p": 0.9}),
    (Sampling(stop=["END", " \n"]), {"stop_sequences": ["END"]}),
    (Sampling(seed=7, presence_penalty=1), {}),
]


@pytest.mark.parametrize(("sampling", "told"), SAMPLED)
async def test_sampling_is_what_the_wire_takes(model: Model, sampling: Sampling, told: dict[str, Any]) -> None:
    said = await asked(model, sampling=sampling)
    assert said == {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}], **told}


THOUGHT = [
    ({"thinks"}, "high", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    ({"thinks"}, "none", {}),
    (set[str](), "high", {}),
    (
        {"thinks", "adaptive"},
        "xhigh",
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
    ),
]


@pytest.mark.parametrize(("traits", "effort", "told"), THOUGHT)
async def test_effort_is_worded_as_the_model_takes_it(
    model: Model, traits: set[str], effort: str, told: dict[str, Any]
) -> None:
    model.traits = frozenset(traits)
    said = await asked(model, sampling=Sampling(reasoning_effort=effort, temperature=0.5))
    del said["messages"]
    assert said == (told if "thinking" in told else {"temperature": 0.5})


SHAPED = [
    (set[str](), None, {"tools": [SHAPE_TOOL], "tool_choice": {"type": "tool", "name": "person"}}),
    ({"native_json"}, True, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ({"native_json"}, None, {"tools": [SHAPE_TOOL], "tool_choice": {"type": "tool", "name": "person"}}),
    (
        {"native_json", "no_forced_tools"},
        None,
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
]


@pytest.mark.parametrize(("traits", "strict", "told"), SHAPED)
async def test_a_shape_is_kept_as_the_model_can(
    model: Model, traits: set[str], strict: bool | None, told: dict[str, Any]
) -> None:
    model.traits = frozenset(traits)
    shape = ResponseFormat(kind="json_schema", name="person", schema=SHAPE.schema, strict=strict)
    said = await asked(model, response_format=shape)
    del said["messages"]
    assert said == told


async def test_the_input_of_the_shapes_tool_is_the_answers_text(model: Model) -> None:
    block = {"type": "tool_use", "id": "t1", "name": "person", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ('{"name"', ': "Ada"}')]
    raw = stream(
        START,
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
        stopped("tool_use"),
        STOP,
    )
    said, end = await model.ask(raw, GenerateRequest(messages=[HELLO], response_format=SHAPE))
    assert "".join(str(piece) for piece in said) == '{"name": "Ada"}'
    assert isinstance(end, End) and end.finish_reason == "stop"


async def test_a_call_without_arguments_has_an_empty_object(model: Model) -> None:
    block = {"type": "tool_use", "id": "t1", "name": "now", "input": {}}
    raw = stream(
        START,
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        stopped("tool_use"),
        STOP,
    )
    said, end = await model.ask(raw)
    assert said == [ToolCallDelta(index=0, id="t1", name="now"), ToolCallDelta(index=0, arguments="{}")]
    assert isinstance(end, End) and end.finish_reason == "tool_calls"


async def test_a_model_that_cannot_be_made_to_call_a_tool_is_not_asked(model: Model) -> None:
    model.traits = frozenset({"no_forced_tools"})
    request = GenerateRequest(messages=[HELLO], tools=Tools(tools=[WEATHER], choice="required"))
    broken = await model.broken(WELL, request)
    assert (model.fake.asked, broken.blames_model) == (0, False)


REASONS = [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter")]


@pytest.mark.parametrize(("theirs", "ours"), REASONS)
async def test_stop_reasons_are_ours(model: Model, theirs: str, ours: str) -> None:
    _, end = await model.ask(stream(START, text("Hi"), stopped(theirs), STOP))
    assert isinstance(end, End) and end.finish_reason == ours


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
BUSY = [stream(ERROR), stream(START, text("Hi"), ERROR), Behaviour(status=529), Behaviour(status=429, retry_after="5")]


@pytest.mark.parametrize("behaviour", BUSY, ids=["at once", "after text", "529", "429"])
async def test_an_overloaded_provider_is_left_alone(model: Model, behaviour: Behaviour) -> None:
    broken = await model.broken(behaviour)
    assert (broken.reason, broken.pause_s, broken.blames_model) == ("MODEL_BUSY", 5, False)


async def test_a_prompt_too_long_for_the_model_says_so(model: Model) -> None:
    complaint = '{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}'
    broken = await model.broken(Behaviour(status=400, complaint=complaint))
    assert (broken.reason, broken.blames_model) == ("CONTEXT_TOO_LONG", False)


NO_FIGURES: list[dict[str, object]] = [{"input_tokens": -5}, {"input_tokens": 10**9}, {"input_tokens": "many"}]


@pytest.mark.parametrize("figures", NO_FIGURES, ids=str)
async def test_figures_that_cannot_be_are_none(model: Model, figures: dict[str, object]) -> None:
    start = {"type": "message_start", "message": {"usage": figures}}
    assert (await model.ask(stream(start, text("Hi"), stopped("end_turn"), STOP)))[1] == End("stop")


async def test_events_told_twice_are_heard_once(model: Model) -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "now"}}
    arguments = {"type": "content_block_delta", "index": 0, "delta": {"partial_json": "{}"}}
    stop = {"type": "content_block_stop", "index": 0}
    words = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "Hi"}}
    twice = [event for event in (START, words, block, arguments, block, arguments, stop, stop) for _ in range(2)]
    pieces, end = await model.ask(stream(*twice, stopped("tool_use"), STOP))
    assert "".join(p.arguments for p in pieces if isinstance(p, ToolCallDelta)) == "{}"
    assert "".join(p for p in pieces if isinstance(p, str)) == "Hi"
    assert isinstance(end, End) and end.usage and end.usage.input_tokens == 3
