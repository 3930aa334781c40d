"""The OpenAI-wire adapter against a provider that misbehaves over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from services.router.models import Broken, End, Prompt
from services.router.models.openai import OpenAI, open_openai
from services.router.offers import Limits, Offer, Price, Provider
from soma.router.v1.routing_pb2 import Message
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider, said

LIMITS = Limits(first_text_s=0.5, idle_s=0.3, total_s=5)


@dataclass
class Bench:
    adapter: OpenAI
    provider: FakeProvider
    limits: Limits = LIMITS

    def prompt(self, base_url: str = "") -> Prompt:
        provider = Provider("acme", "openai", base_url or self.provider.base_url, key="sk-1", limits=self.limits)
        offer = Offer(provider, "gpt-x", "standard", Price(1, 1), 8000, 500, 100, options={"temperature": 0.5})
        return Prompt(offer, [Message(role="user", text="Hello")], max_tokens=77)

    async def ask(self, behaviour: Behaviour, adapter: OpenAI | None = None) -> tuple[list[str], End | Broken]:
        """The pieces of text, and how it ended."""
        self.provider.behaviour = behaviour
        pieces: list[str] = []
        try:
            async with asyncio.timeout(10), aclosing((adapter or self.adapter).stream(self.prompt())) as stream:
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
    async with open_fake_provider() as provider, open_openai() as adapter:
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
    counted = (11, 8) if behaviour.usage else (None, None)
    assert end == End("stop", *counted)


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


@pytest.mark.parametrize(("header", "pause_s"), [("7", 7), ("", 5), ("0", 1), ("99999", 300), ("soon", 5), ("nan", 5)])
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
