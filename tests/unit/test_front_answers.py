"""What a model said on OpenAI's wire: chunks, one body, vectors, and the word that breaks a silence."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import Sequence
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.common.errors import Exhausted, Invalid, Refusal, Unavailable
from services.router.front.answers import DONE, HEARTBEAT, Chunks, Whole
from services.router.front.beat import beating
from services.router.front.embeddings import AskedVectors, body_of
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage
from soma.router.v1.routing_pb2 import GenerateEvent, Outcome, TextDelta, ToolCallDelta

ODD = 'say "\\ \n\r\t\u2028 é 😀 \x00 </script>'


def decision(model: str = "grande") -> GenerateEvent:
    return GenerateEvent(decision=Decision(id="d1", provider="acme", model=model))


def text(said: str) -> GenerateEvent:
    return GenerateEvent(text=TextDelta(delta=said))


def piece(index: int, arguments: str, id: str = "", name: str = "") -> GenerateEvent:
    return GenerateEvent(tool_call=ToolCallDelta(index=index, id=id, name=name, arguments=arguments))


def ended(reason: str = "stop") -> GenerateEvent:
    return GenerateEvent(outcome=Outcome(usage=Usage(input_tokens=7, output_tokens=3), finish_reason=reason))


def failed(reason: str) -> GenerateEvent:
    return GenerateEvent(outcome=Outcome(failure=Failure(reason=reason, message="It is ill.")))


def streamed(steps: Sequence[GenerateEvent], include_usage: bool = False) -> list[bytes]:
    chunks = Chunks(1000, include_usage)
    return [chunks.of(step) for step in steps]


def parsed(said: list[bytes]) -> list[dict[str, Any]]:
    lines = b"".join(said).decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def whole(steps: Sequence[GenerateEvent]) -> ChatCompletion:
    answer = Whole(1000)
    bodies = [answer.add(step) for step in steps]
    assert not any(bodies[:-1])
    return ChatCompletion.model_validate_json(bodies[-1])


STEPS: list[tuple[str, list[GenerateEvent]]] = [
    ("text", [decision(), text(ODD), text("b"), ended()]),
    ("nothing", [decision(), ended("length")]),
    ("refusal", [decision(), GenerateEvent(refusal=TextDelta(delta="no")), ended("content_filter")]),
    ("reasoning", [decision(), GenerateEvent(reasoning=TextDelta(delta="hm")), text("42"), ended()]),
    ("tools", [decision(), text("a"), piece(0, '{"x":', "c1", "f"), piece(0, ODD), piece(1, "{}", "c2", "g"), ended()]),
    ("fallback", [decision("first"), decision(), text("a"), ended()]),
]


@pytest.mark.parametrize("steps", [steps for _, steps in STEPS], ids=[name for name, _ in STEPS])
def test_a_stream_and_a_body_say_the_same(steps: list[GenerateEvent]) -> None:
    state = ChatCompletionStreamState()
    for chunk in parsed(streamed(steps, include_usage=True)):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    one, other = state.current_completion_snapshot, whole(steps)
    for name in ("content", "refusal", "role"):
        got, want = getattr(one.choices[0].message, name), getattr(other.choices[0].message, name)
        assert (got or None) == (want or None)
    calls = [
        [(c.id, c.type, c.function.name, c.function.arguments) for c in a.choices[0].message.tool_calls or ()]  # type: ignore[union-attr]
        for a in (one, other)
    ]
    assert calls[0] == calls[1]
    assert one.usage == other.usage
    assert (
        (one.id, one.model, one.created)
        == (other.id, other.model, other.created)
        == ("chatcmpl-d1", "acme/grande", 1000)
    )
    assert one.choices[0].finish_reason == other.choices[0].finish_reason


def test_a_stream_names_the_role_once_and_is_done_once() -> None:
    said = streamed([decision(), text("a"), text("b"), ended()])
    assert said[0] == b""
    assert said[-1].endswith(DONE) and b"".join(said).count(DONE) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in parsed(said)]
    assert deltas == [{"role": "assistant", "content": "", "refusal": None}, {"content": "a"}, {"content": "b"}, {}]
    assert "usage" not in parsed(said)[0]


def test_what_one_read_brought_is_one_chunk() -> None:
    assert len(parsed(streamed([decision(), text("a"), text("b" * 9000)]))) == 3


def test_usage_comes_last_and_only_when_it_is_wanted() -> None:
    chunks = parsed(streamed([decision(), text("a"), ended()], include_usage=True))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None, None, None]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 10


@pytest.mark.parametrize("before", [[], [text("half")]])
def test_a_stream_that_fails_says_so_and_is_not_done(before: list[GenerateEvent]) -> None:
    said = streamed([decision(), *before, failed("PROVIDER_CUT")])
    assert DONE not in b"".join(said)
    assert parsed(said)[-1] == {
        "error": {"message": "It is ill.", "type": "server_error", "param": None, "code": "provider_cut"}
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("PROVIDER_FAILED", Unavailable), ("PROVIDER_CUT", Unavailable), ("INTERRUPTED", Unavailable),
     ("CONTEXT_TOO_LONG", Invalid), ("MODEL_BUSY", Exhausted), ("ROOM_BUSY", Exhausted)],
)  # fmt: skip
def test_an_answer_in_one_piece_that_fails_is_a_refusal(reason: str, kind: type[Refusal]) -> None:
    with pytest.raises(kind) as caught:
        whole([decision(), text("half"), failed(reason)])
    assert (caught.value.reason, caught.value.message) == (reason, "It is ill.")


def test_tool_calls_whose_pieces_come_mixed_are_put_together() -> None:
    steps = [
        decision(),
        piece(1, "{", "b", "g"),
        piece(0, "[", "a", "f"),
        piece(1, "}"),
        piece(0, "]"),
        ended("tool_calls"),
    ]
    calls = whole(steps).choices[0].message.tool_calls or []
    assert [(c.id, c.function.arguments) for c in calls] == [("a", "[]"), ("b", "{}")]  # type: ignore[union-attr]


def test_vectors_are_numbers_or_little_endian_floats() -> None:
    made = ("m", [[0.5, -1.0], [2.0, 0.25]], 5)
    plain = json.loads(body_of(AskedVectors("m", ["a", "b"], False), *made))
    packed = json.loads(body_of(AskedVectors("m", ["a", "b"], True), *made))
    assert [item["embedding"] for item in plain["data"]] == [[0.5, -1.0], [2.0, 0.25]]
    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert struct.unpack("<2f", base64.b64decode(packed["data"][1]["embedding"])) == (2.0, 0.25)
    assert plain["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_vectors_that_the_edge_would_not_let_through_are_refused() -> None:
    with pytest.raises(Invalid):
        body_of(AskedVectors("m", [], False), "m", [[0.1234567890123] * 3000] * 200, 1)


async def test_a_silence_is_broken_again_and_again_and_only_a_silence() -> None:
    written: asyncio.Queue[bytes] = asyncio.Queue()
    async with asyncio.timeout(5), beating(written.put, HEARTBEAT, 0.02) as write:
        assert [await written.get() for _ in range(3)] == [HEARTBEAT] * 3
        await write(b"word")
        assert b"word" in {await written.get(), await written.get()}
    assert written.empty()


async def test_a_stream_opens_soon_when_there_is_nothing_to_say_yet() -> None:
    written: asyncio.Queue[bytes] = asyncio.Queue()
    async with asyncio.timeout(5), beating(written.put, HEARTBEAT, 60.0, first_s=0.02):
        assert await written.get() == HEARTBEAT
    assert written.empty()


async def test_a_stream_that_speaks_at_once_needs_no_opening() -> None:
    written: list[bytes] = []

    async def send(data: bytes) -> None:
        written.append(data)

    async with asyncio.timeout(5), beating(send, HEARTBEAT, 60.0, first_s=0.02) as write:
        await write(b"word")
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.1)  # the opening would be due
    assert written == [b"word"]


async def test_a_word_that_cannot_be_written_ends_the_stream() -> None:
    async def send(data: bytes) -> None:
        tried.set()
        if data == HEARTBEAT:
            raise ConnectionError("gone")

    async def stream() -> None:
        async with asyncio.timeout(5), beating(send, HEARTBEAT, 0.01) as write:
            await tried.wait()
            await write(b"word")

    tried = asyncio.Event()
    with pytest.raises(ConnectionError):
        await stream()


async def test_a_write_goes_before_a_word_that_is_due_again() -> None:
    written: list[bytes] = []
    said = asyncio.Event()

    async def send(data: bytes) -> None:
        written.append(data)
        said.set()

    async with asyncio.timeout(5), beating(send, HEARTBEAT, 0.01) as write:
        await said.wait()
        over = time.monotonic() + 0.02
        while time.monotonic() < over:  # the loop stands still for two silences
            pass
        await write(b"word")
    assert written == [HEARTBEAT, b"word"]


async def test_nothing_is_said_into_a_write_that_waits() -> None:
    writing, go_on, overlap = asyncio.Event(), asyncio.Event(), []

    async def send(data: bytes) -> None:
        overlap.append(writing.is_set())
        writing.set()
        await go_on.wait()
        writing.clear()

    async with asyncio.timeout(5), beating(send, HEARTBEAT, 0.01) as write:
        slow = asyncio.ensure_future(write(b"word"))
        await writing.wait()
        await asyncio.wait([slow], timeout=0.05)  # several silences long
        go_on.set()
        await slow
    assert overlap and not any(overlap)
