"""The OpenAI-wire adapter against a provider that misbehaves over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from services.router.models import Broken, End, Piece, Prompt, Reasoning, Refusing
from services.router.models.conversing import open_session
from services.router.models.openai import OpenAI
from services.router.offers import Limits, Offer, Price, Provider
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
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider, said

LIMITS = Limits(first_text_s=1.0, idle_s=0.6, total_s=5)


@dataclass
class Bench:
    adapter: OpenAI
    provider: FakeProvider
    limits: Limits = LIMITS

    def prompt(self, base_url: str = "", request: GenerateRequest | None = None) -> Prompt:
        request = request or GenerateRequest(messages=[Message(role="user", text="Hello")])
        provider = Provider("acme", "openai", base_url or self.provider.base_url, key="sk-1", limits=self.limits)
        offer = Offer(provider, "gpt-x", "standard", Price(1, 1), 8000, 500, 100, options={"temperature": 0.5})
        return Prompt(offer, request.messages, max_tokens=77, request=request)

    async def ask(
        self, behaviour: Behaviour, adapter: OpenAI | None = None, request: GenerateRequest | None = None
    ) -> tuple[list[str], End | Broken]:
        """The pieces of text, and how it ended."""
        pieces, end = await self.hear(behaviour, adapter, request)
        assert all(isinstance(piece, str) for piece in pieces)
        return [piece for piece in pieces if isinstance(piece, str)], end

    async def hear(
        self, behaviour: Behaviour, adapter: OpenAI | None = None, request: GenerateRequest | None = None
    ) -> tuple[list[Piece], End | Broken]:
        """All pieces, and how it ended."""
        self.provider.behaviour = behaviour
        pieces: list[Piece] = []
        prompt = self.prompt(request=request)
        try:
            async with asyncio.timeout(10), aclosing((adapter or self.adapter).stream(prompt)) as stream:
                async for piece in stream:
                    if isinstance(piece, End):
                        return pieces, piece
                    assert piece, "an empty piece"
                    pieces.append(piece)
        except Broken as broken:
            return pieces, broken
        raise AssertionError("the stream ended without End and without Broken")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_fake_provider() as provider, open_session() as session:
        adapter = OpenAI(session)
        yield Bench(adapter, provider)


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


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "tool_calls"])
async def test_finish_reasons_are_ours(bench: Bench, finish: str) -> None:
    _, end = await bench.ask(Behaviour(finish=finish))
    assert isinstance(end, End)
    assert end.finish_reason == (finish if finish != "tool_calls" else "stop")


BEFORE_TEXT = {
    "status 500": Behaviour(status=500),
    "status 503": Behaviour(status=503),
    "key": Behaviour(status=401),
    "status 404": Behaviour(status=404),
    "no event stream": Behaviour(rubbish="html"),
    "no answer": Behaviour(rubbish="text"),
    "sent no answer": Behaviour(rubbish="half-json"),
    "that is no answer": Behaviour(rubbish="bad-json"),
    "is no answer": Behaviour(rubbish="wrong-shape"),
    "error of its own": Behaviour(rubbish="error"),
    "acme sent no answer": Behaviour(rubbish="only-done"),
    "without end": Behaviour(rubbish="endless-line"),
    "broke the connection": Behaviour(cut_after=0),
    "silent": Behaviour(hang_after=0),
}


@pytest.mark.parametrize("sentence", BEFORE_TEXT)
async def test_a_fault_before_the_text_is_told_in_a_sentence(bench: Bench, sentence: str) -> None:
    pieces, broken = await bench.ask(BEFORE_TEXT[sentence])
    assert pieces == []
    assert isinstance(broken, Broken)
    assert sentence in broken.sentence
    assert broken.blames_model


AFTER_TEXT = {
    "cut": Behaviour(cut_after=3, pace_ms=20),
    "silence": Behaviour(hang_after=3),
    "error": Behaviour(rubbish="error", rubbish_after=3),
    "bad json": Behaviour(rubbish="bad-json", rubbish_after=3),
    "half a json": Behaviour(rubbish="half-json", rubbish_after=3),
    "no finish": Behaviour(words=3, finish="", usage=False, done=False),
}


@pytest.mark.parametrize("fault", AFTER_TEXT)
async def test_a_fault_after_the_text_keeps_the_text(bench: Bench, fault: str) -> None:
    pieces, broken = await bench.ask(AFTER_TEXT[fault])
    assert "".join(pieces) == "word1 word2 word3"
    assert isinstance(broken, Broken)
    assert broken.sentence.startswith("acme ")


async def test_rubbish_in_the_read_that_brought_text_comes_after_the_text(bench: Bench) -> None:
    pieces, broken = await bench.ask(Behaviour(rubbish="error", rubbish_after=3, joined=100))
    assert "".join(pieces) == "word1 word2 word3"
    assert isinstance(broken, Broken)


async def test_a_refused_connection_is_told_at_once(bench: Bench) -> None:
    prompt = bench.prompt("http://127.0.0.1:1/v1")
    began = time.monotonic()
    with pytest.raises(Broken, match="acme cannot be reached"):
        await anext(bench.adapter.stream(prompt))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("url", ["http://", "http://no such host/", "ftp://example", "http://127.0.0.1:99999/v1"])
async def test_a_url_that_is_none_is_told_in_a_sentence(bench: Bench, url: str) -> None:
    with pytest.raises(Broken, match="acme cannot be reached"):
        await anext(bench.adapter.stream(bench.prompt(url)))


PAUSES = [
    ("7", 7),
    ("", 5),
    ("0", 1),
    ("99999", 300),
    ("soon", 5),
    ("nan", 5),
    ("Mon, 01 Jan 2001 00:00:00 GMT", 1),
    ("Fri, 01 Jan 2100 00:00:00 GMT", 300),
    ("Fri, 99 Jan 2100 00:00:00 GMT", 5),
]


@pytest.mark.parametrize(("header", "pause_s"), PAUSES)
async def test_a_busy_provider_is_left_alone_as_long_as_it_asks(bench: Bench, header: str, pause_s: float) -> None:
    _, broken = await bench.ask(Behaviour(status=429, retry_after=header))
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.pause_s, broken.blames_model) == ("MODEL_BUSY", pause_s, False)


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
async def test_a_prompt_too_long_for_the_model_says_so(bench: Bench, code: str) -> None:
    _, broken = await bench.ask(Behaviour(status=400, complaint=f'{{"error": {{"code": "{code}"}}}}'))
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.blames_model) == ("CONTEXT_TOO_LONG", False)


async def test_a_request_that_is_refused_does_not_blame_the_model(bench: Bench) -> None:
    _, broken = await bench.ask(Behaviour(status=400))
    assert isinstance(broken, Broken)
    assert not broken.blames_model


async def test_the_complaint_of_a_provider_is_not_shown(bench: Bench) -> None:
    _, broken = await bench.ask(Behaviour(status=400, complaint="your key is sk-1"))
    assert isinstance(broken, Broken)
    assert "sk-1" not in broken.sentence


async def test_a_silent_provider_ends_when_its_time_is_over(bench: Bench) -> None:
    began = time.monotonic()
    await bench.ask(Behaviour(wait_ms=60_000))
    assert LIMITS.first_text_s <= time.monotonic() - began < LIMITS.first_text_s + 1


async def test_comments_do_not_prolong_the_wait_for_the_first_text(bench: Bench) -> None:
    began = time.monotonic()
    pieces, broken = await bench.ask(Behaviour(wait_ms=60_000, comments=True))
    assert pieces == []
    assert isinstance(broken, Broken)
    assert time.monotonic() - began < LIMITS.first_text_s + 1


async def test_the_whole_answer_has_a_deadline(bench: Bench) -> None:
    bench.limits = replace(LIMITS, total_s=0.6)
    began = time.monotonic()
    pieces, broken = await bench.ask(Behaviour(words=10_000, pace_ms=50))
    assert pieces
    assert isinstance(broken, Broken)
    assert time.monotonic() - began < 1.5


async def test_an_answer_is_cut_at_its_bound_between_characters(bench: Bench) -> None:
    adapter = replace(bench.adapter, most_answer_bytes=1000)
    pieces, end = await bench.ask(Behaviour(words=500, word_bytes=20), adapter)
    assert len("".join(pieces).encode()) == 1000
    assert isinstance(end, End)
    assert end.finish_reason == "length"


async def test_bytes_that_are_no_utf8_become_replacement_characters(bench: Bench) -> None:
    pieces, end = await bench.ask(Behaviour(words=3, bad_utf8=True))
    assert "".join(pieces) == "word1\ufffd word2\ufffd word3\ufffd"
    assert isinstance(end, End)


async def test_a_fault_after_the_finish_reason_loses_nothing(bench: Bench) -> None:
    pieces, end = await bench.ask(Behaviour(usage=False, done=False))
    assert "".join(pieces) == said(Behaviour())
    assert end == End("stop")


async def test_whoever_stops_listening_hangs_up_on_the_provider(bench: Bench) -> None:
    bench.provider.behaviour = Behaviour(words=1000, pace_ms=10)
    async with aclosing(bench.adapter.stream(bench.prompt())) as stream:
        await anext(stream)
    async with asyncio.timeout(3):
        while bench.provider.hung_up == 0:
            await asyncio.sleep(0.01)


async def test_a_listener_slower_than_the_provider_misses_nothing(bench: Bench) -> None:
    bench.provider.behaviour = Behaviour(words=20, pace_ms=30)
    heard: list[str] = []
    async with aclosing(bench.adapter.stream(bench.prompt())) as stream:
        async for piece in stream:
            if len(heard) == 1:
                await asyncio.sleep(LIMITS.idle_s * 2)  # time must really pass: the provider's patience is measured
            heard.append(piece if isinstance(piece, str) else "")
    assert "".join(heard) == said(bench.provider.behaviour)


async def test_answers_one_after_the_other_use_one_connection(bench: Bench) -> None:
    for _ in range(5):
        await bench.ask(Behaviour(goodbye_ms=10))
    assert len(bench.provider.connections) == 1


async def test_redirects_are_not_followed(bench: Bench) -> None:
    async with open_fake_provider() as elsewhere:
        _, broken = await bench.ask(Behaviour(status=307, location=f"{elsewhere.base_url}/chat/completions"))
        assert isinstance(broken, Broken)
        assert elsewhere.asked == 0


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


def chunks(*deltas: dict[str, object], finish: str = "stop") -> Behaviour:
    told: list[object] = [{"choices": [{"delta": delta}]} for delta in deltas]
    told.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    return Behaviour(raw="".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n")


def call(index: int | None, id: str | None, name: str | None, arguments: object) -> dict[str, object]:
    told = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [told]}


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


TOO_MUCH = {
    "larger than 256 KiB": [call(0, "a", "see", '"' + "x" * 200_000), call(0, None, None, "x" * 100_000)],
    "more than 128 tools": [call(n, f"c{n}", "see", "{}") for n in range(129)],
    "without a name": [call(0, "a", None, "{}")],
}


@pytest.mark.parametrize("sentence", TOO_MUCH)
async def test_tool_calls_that_are_too_much_break_the_answer(bench: Bench, sentence: str) -> None:
    _, broken = await bench.hear(chunks(*TOO_MUCH[sentence]))
    assert isinstance(broken, Broken)
    assert sentence in broken.sentence


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


@pytest.mark.parametrize("error", [{"code": 429}, {"type": "rate_limit_exceeded"}, {"message": "Overloaded"}], ids=str)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_an_error_inside_of_a_200_is_an_error(bench: Bench, error: dict[str, object], content_type: str) -> None:
    said = json.dumps({"error": error})
    raw = said if content_type == "application/json" else f"data: {said}\n\n"
    pieces, broken = await bench.hear(Behaviour(raw=raw, content_type=content_type))
    assert (pieces, type(broken)) == ([], Broken)
    assert isinstance(broken, Broken) and broken.reason == "MODEL_BUSY"


async def test_a_model_that_answers_in_the_place_of_another_is_told_of_once(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("gpt-x-2026-01-01", "gpt-7", "gpt-7", "acme/gpt-x:free"):
        pieces, end = await bench.ask(Behaviour(model=model))
        assert isinstance(end, End) and pieces
    assert bench.adapter.notices == {("acme", "gpt-x", "gpt-7")}


async def test_what_does_not_take_the_connection_is_told_before_the_first_text_is_due(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        bench.limits = replace(LIMITS, connect_s=0.2, first_text_s=5)
        began = time.monotonic()
        with pytest.raises(Broken, match="acme cannot be reached"):
            await anext(bench.adapter.stream(bench.prompt(f"http://127.0.0.1:{port}/v1")))
        assert time.monotonic() - began < 3
        for one in waiting:
            one.close()


async def test_json_nested_without_end_is_no_answer(bench: Bench) -> None:
    _, broken = await bench.hear(Behaviour(raw='data: {"error": ' + "[" * 200_000 + "\n\n"))
    assert isinstance(broken, Broken)


async def test_halves_of_characters_in_escapes_are_put_up_with(bench: Bench) -> None:
    raw = 'data: {"choices": [{"delta": {"content": "a\\ud83d b"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert (await bench.ask(Behaviour(raw=raw)))[0] == ["a\ufffd b"]


async def test_the_last_chunk_told_twice_is_heard_once(bench: Bench) -> None:
    last = 'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
    assert (await bench.ask(Behaviour(raw=last + last + "data: [DONE]\n\n")))[0] == ["Hi"]
