"""The OpenAI-wire adapter against a provider that misbehaves over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.router.models import Broken, End
from tests.doors.openai_wire import LIMITS, Bench, call, chunks, open_bench
from tests.fake_provider import Behaviour, open_fake_provider, said


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


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
    if sentence == "silent":
        bench.limits = LIMITS
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
    if fault == "silence":
        bench.limits = replace(LIMITS, first_text_s=20)
    pieces, broken = await bench.ask(AFTER_TEXT[fault])
    assert "".join(pieces) == "word1 word2 word3"
    assert isinstance(broken, Broken)
    assert broken.sentence.startswith("acme ")


async def test_rubbish_in_the_read_that_brought_text_comes_after_the_text(bench: Bench) -> None:
    pieces, broken = await bench.ask(Behaviour(rubbish="error", rubbish_after=3, joined=100))
    assert "".join(pieces) == "word1 word2 word3"
    assert isinstance(broken, Broken)


async def test_a_refused_connection_is_told_at_once(bench: Bench) -> None:
    bench.limits = replace(LIMITS, connect_s=60, first_text_s=60, total_s=60)
    prompt = bench.prompt("http://127.0.0.1:1/v1")
    began = time.monotonic()
    with pytest.raises(Broken, match="acme cannot be reached"):
        await anext(bench.adapter.stream(prompt))
    assert time.monotonic() - began < 10


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
    bench.limits = LIMITS
    began = time.monotonic()
    await bench.ask(Behaviour(wait_ms=60_000))
    assert LIMITS.first_text_s <= time.monotonic() - began < LIMITS.total_s


async def test_comments_do_not_prolong_the_wait_for_the_first_text(bench: Bench) -> None:
    bench.limits = LIMITS
    began = time.monotonic()
    pieces, broken = await bench.ask(Behaviour(wait_ms=60_000, comments=True))
    assert pieces == []
    assert isinstance(broken, Broken)
    assert time.monotonic() - began < LIMITS.total_s


async def test_what_came_before_a_cut_is_heard_though_nobody_listened_when_it_came(bench: Bench) -> None:
    bench.provider.behaviour = Behaviour(words=40, cut_after=20, joined=10, pace_ms=5)
    pieces = list[object]()

    async def listen() -> None:
        async with aclosing(bench.adapter.stream(bench.prompt())) as stream:
            async for piece in stream:
                pieces.append(piece)
                while not bench.provider.cuts:
                    await asyncio.sleep(0)
                for _ in range(100):
                    await asyncio.sleep(0)

    with pytest.raises(Broken, match="broke"):
        await asyncio.wait_for(listen(), 10)
    assert len("".join(map(str, pieces)).split()) == 20


@pytest.mark.parametrize("pace_ms", [2, 50])
async def test_the_whole_answer_has_a_deadline(bench: Bench, pace_ms: float) -> None:
    bench.limits = replace(LIMITS, first_text_s=20, total_s=3)
    began = time.monotonic()
    pieces, broken = await bench.ask(Behaviour(words=10_000, pace_ms=pace_ms))
    assert pieces
    assert isinstance(broken, Broken)
    assert time.monotonic() - began < 10


async def test_bytes_that_are_no_utf8_become_replacement_characters(bench: Bench) -> None:
    pieces, end = await bench.ask(Behaviour(words=3, bad_utf8=True))
    assert "".join(pieces) == "word1\ufffd word2\ufffd word3\ufffd"
    assert isinstance(end, End)


async def test_a_fault_after_the_finish_reason_loses_nothing(bench: Bench) -> None:
    pieces, end = await bench.ask(Behaviour(usage=False, done=False))
    assert "".join(pieces) == said(Behaviour())
    assert end == End("stop")


async def test_redirects_are_not_followed(bench: Bench) -> None:
    async with open_fake_provider() as elsewhere:
        _, broken = await bench.ask(Behaviour(status=307, location=f"{elsewhere.base_url}/chat/completions"))
        assert isinstance(broken, Broken)
        assert elsewhere.asked == 0


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
        bench.limits = replace(LIMITS, connect_s=0.2, first_text_s=60, total_s=60)
        began = time.monotonic()
        with pytest.raises(Broken, match="acme cannot be reached"):
            await anext(bench.adapter.stream(bench.prompt(f"http://127.0.0.1:{port}/v1")))
        assert time.monotonic() - began < 10
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
