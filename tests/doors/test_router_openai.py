"""The OpenAI-wire adapter: what it asks of a provider, and what it hears of a whole answer, over a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.router.models import Broken, End, Reasoning, Refusing, patience
from soma.common.v1.model_pb2 import Usage
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
from tests.doors.openai_wire import LIMITS, Bench, call, chunks, open_bench
from tests.fake_provider import Behaviour, said


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


WELL = [
    Behaviour(),
    Behaviour(crlf=True),
    Behaviour(comments=True),
    Behaviour(split_bytes=3),
    Behaviour(joined=4),
    Behaviour(usage=False),
    Behaviour(done=False),
    Behaviour(finish=""),
    Behaviour(wait_ms=200, pace_ms=20),
]


@pytest.mark.parametrize("behaviour", WELL, ids=str)
async def test_a_good_answer_arrives_whole(bench: Bench, behaviour: Behaviour) -> None:
    pieces, end = await bench.ask(behaviour)
    assert "".join(pieces) == said(behaviour)
    assert end == End("stop", Usage(input_tokens=11, output_tokens=8) if behaviour.usage else None)


async def test_the_request_names_model_bound_options_and_key(bench: Bench) -> None:
    await bench.ask(Behaviour())
    assert bench.provider.headers["Authorization"] == "Bearer sk-1"
    assert bench.provider.last == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 77,
        "temperature": 0.5,
    }


async def test_what_one_read_returned_is_one_piece(bench: Bench) -> None:
    pieces, _ = await bench.ask(Behaviour(words=64, joined=16, pace_ms=20))
    assert len(pieces) <= 6


async def test_a_quick_stream_is_read_at_ticks_and_a_slow_one_word_by_word(bench: Bench) -> None:
    quick, slow = Behaviour(words=200, pace_ms=2), Behaviour(words=8, pace_ms=60)
    began = time.monotonic()
    pieces, end = await bench.ask(quick)
    took_s = time.monotonic() - began
    assert isinstance(end, End) and "".join(pieces) == said(quick)
    assert 2 <= len(pieces) <= 3 + took_s / 0.008, "not half of them come word by word"
    pieces, end = await bench.ask(slow)
    assert isinstance(end, End) and "".join(pieces) == said(slow)
    assert len(pieces) == 8


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "tool_calls"])
async def test_finish_reasons_are_ours(bench: Bench, finish: str) -> None:
    _, end = await bench.ask(Behaviour(finish=finish))
    assert isinstance(end, End)
    assert end.finish_reason == (finish if finish != "tool_calls" else "stop")


async def test_an_answer_is_cut_at_its_bound_between_characters(bench: Bench) -> None:
    adapter = replace(bench.adapter, most_answer_bytes=1000)
    pieces, end = await bench.ask(Behaviour(words=500, word_bytes=20), adapter)
    assert len("".join(pieces).encode()) == 1000
    assert isinstance(end, End)
    assert end.finish_reason == "length"


async def test_whoever_stops_listening_hangs_up_on_the_provider(bench: Bench) -> None:
    bench.provider.behaviour = Behaviour(words=1000, pace_ms=10)
    async with aclosing(bench.adapter.stream(bench.prompt())) as stream:
        await anext(stream)
    async with asyncio.timeout(20):
        while bench.provider.hung_up == 0:
            await asyncio.sleep(0.01)


async def test_a_listener_slower_than_the_provider_misses_nothing(bench: Bench) -> None:
    bench.limits = replace(LIMITS, first_text_s=20, idle_s=2)
    bench.provider.behaviour = Behaviour(words=20, pace_ms=30)
    heard: list[str] = []
    async with aclosing(bench.adapter.stream(bench.prompt())) as stream:
        async for piece in stream:
            if len(heard) == 1:
                await asyncio.sleep(
                    bench.limits.idle_s * 2
                )  # time must really pass: the provider's patience is measured
            heard.append(piece if isinstance(piece, str) else "")
    assert "".join(heard) == said(bench.provider.behaviour)


async def test_a_listener_who_stops_while_more_comes_than_is_held_for_them_hears_all_of_it(bench: Bench) -> None:
    bench.provider.behaviour = Behaviour(words=7000, joined=1)
    heard: list[str] = []
    async with asyncio.timeout(20), aclosing(bench.adapter.stream(bench.prompt())) as stream:
        async for piece in stream:
            if not heard:
                await asyncio.sleep(0.5)  # time must really pass: the provider fills what is held
            heard.append(piece if isinstance(piece, str) else "")
    assert "".join(heard) == said(bench.provider.behaviour)


async def test_answers_one_after_the_other_use_one_connection(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "GOODBYE_S", 20.0)
    for _ in range(5):
        await bench.ask(Behaviour(goodbye_ms=10))
    assert len(bench.provider.connections) == 1


class Fickle:
    """A provider that says it keeps its connections, and drops each at its second question, unanswered."""

    def __init__(self, answers_firsts: bool) -> None:
        self.answers_firsts, self.questions = answers_firsts, 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for may_answer in (self.answers_firsts, False):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            self.questions += 1
            if not may_answer:
                break
            said = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
            length = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(said)}\r\n\r\n"
            writer.write(length.encode() + said)
        writer.close()


@pytest.mark.parametrize(("answers_firsts", "questions"), [(True, 3), (False, 2)])
async def test_a_question_on_a_kept_connection_that_is_dropped_is_asked_once_more_on_a_new_one(
    bench: Bench, answers_firsts: bool, questions: int
) -> None:
    provider = Fickle(answers_firsts)
    async with await asyncio.start_server(provider.talk, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for _ in range(2):
            stream = bench.adapter.stream(bench.prompt(url))
            if answers_firsts:
                assert "hi" in [piece async for piece in stream]
            else:
                with pytest.raises(Broken):
                    await anext(stream)
    assert provider.questions == questions


async def test_all_that_a_request_holds_is_worded(bench: Bench) -> None:
    schema = '{"type": "object"}'
    request = GenerateRequest(
        messages=[
            Message(role="system", text="Be kind."),
            Message(
                role="user",
                text="Look",
                parts=[Part(text="here"), Part(image=Image(url="https://a.example/b.png", detail="low"))],
            ),
            Message(role="assistant", tool_calls=[ToolCall(id="c1", name="see", arguments='{"a": 1}')]),
            Message(role="tool", tool_call_id="c1", text="rain"),
        ],
        tools=Tools(
            tools=[Tool(name="see", description="Sees.", parameters=schema, strict=True), Tool(name="hear")],
            choice="tool:see",
            parallel=False,
        ),
        response_format=ResponseFormat(kind="json_schema", name="person", schema=schema, strict=True),
        sampling=Sampling(temperature=0.0, top_p=0.5, seed=7, stop=["END"], reasoning_effort="low"),
    )
    await bench.hear(Behaviour(), request=request)
    assert bench.provider.last == {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "text", "text": "here"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "see", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 77,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "reasoning_effort": "low",
        "tools": [
            {
                "type": "function",
                "function": {"name": "see", "description": "Sees.", "parameters": {"type": "object"}, "strict": True},
            },
            {"type": "function", "function": {"name": "hear"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "see"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True},
        },
    }


@pytest.mark.parametrize("schema", ["{", "[]", '{} , "model": "gpt-y"', "[" * 100_000])
async def test_a_schema_that_is_no_json_object_is_refused_before_anything_is_asked(bench: Bench, schema: str) -> None:
    request = GenerateRequest(
        messages=[Message(role="user", text="Hello")], tools=Tools(tools=[Tool(name="see", parameters=schema)])
    )
    _, broken = await bench.hear(Behaviour(), request=request)
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.blames_model, bench.provider.asked) == ("REQUEST_INVALID", False, 0)


UNTIDY = {
    "the index left out": [call(None, "a", "see", ""), call(None, None, None, '{"x":1}'), call(None, "b", "see", "{}")],
    "id and name repeated": [call(0, "a", "see", '{"x"'), call(0, "a", "see", ":1}"), call(1, "b", "see", "{}")],
    "each with the index 0": [call(0, "a", "see", '{"x":1}'), call(0, "b", "see", "{}")],
    "a chunk told twice": [call(0, "a", "see", '{"x":1}'), call(0, "a", "see", '{"x":1}'), call(1, "b", "see", "{}")],
    "arguments as an object": [call(0, "a", "see", {"x": 1}), call(1, "b", "see", {})],
    "the name later": [call(0, "a", None, '{"x"'), call(0, None, "see", ":1}"), call(1, "b", "see", "{}")],
    "neither id nor index": [
        call(None, None, "see", '{"x"'),
        call(None, None, "see", ":1}"),
        call(None, None, "see", "{}"),
    ],
}


@pytest.mark.parametrize("manner", UNTIDY)
async def test_tool_calls_are_put_together_however_they_are_told(bench: Bench, manner: str) -> None:
    pieces, end = await bench.hear(chunks(*UNTIDY[manner]))
    assert isinstance(end, End) and end.finish_reason == "tool_calls"
    told = [piece for piece in pieces if isinstance(piece, ToolCallDelta)]
    whole = ["".join(piece.arguments for piece in told if piece.index == n) for n in (0, 1)]
    begun = [piece for piece in told if piece.id]
    assert [(piece.index, piece.name) for piece in begun] == [(0, "see"), (1, "see")]
    assert [json.loads(arguments) for arguments in whole] == [{"x": 1}, {}]
    assert len(told) == len([piece for piece in told if piece.id or piece.arguments])


async def test_reasoning_text_and_refusal_come_in_their_order(bench: Bench) -> None:
    deltas: list[dict[str, object]] = [
        {"reasoning": "Hm"},
        {"reasoning_content": "m", "content": "A"},
        {"content": "B"},
    ]
    pieces, _ = await bench.hear(chunks(*deltas, {"refusal": "No"}, {"content": "C"}))
    assert pieces == [Reasoning("Hm"), Reasoning("m"), "AB", Refusing("No"), "C"]


async def test_reasoning_without_end_is_cut_at_its_bound(bench: Bench) -> None:
    thoughts: list[dict[str, object]] = [{"reasoning": "x" * 100_000}] * 20
    pieces, end = await bench.hear(chunks(*thoughts))
    assert sum(len(piece.text) for piece in pieces if isinstance(piece, Reasoning)) <= 1024 * 1024
    assert isinstance(end, End) and end.finish_reason == "length"
