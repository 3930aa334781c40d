"""Whole chats: from the browser's wire through edge, agent and router to a fake provider, and back as a stream.

Sixteen in flight, each on a kept connection. The load generator, the fake provider and every part share the same cores,
so what counts is where the time goes. The same load generator asks the fake provider straight, for the ratio.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.bench.fake import Fake, running_fake
from tests.bench.figure import Figure
from tests.bench.spent import percentile, spending
from tests.system.mesh import Mesh, running_mesh

AT_ONCE = 16
CHATS, STREAMS, STRAIGHT, WARM_UP = 800, 800, 1600, 64
WORDS_SHORT, WORDS_LONG = 8, 64
PARTS = ("edge", "agent", "router", "postgres", "valkey")
CALL_S = 30.0
TEXT = re.compile(rb'"text":\s*\{|"content":')
WHOLE = re.compile(rb'"done":\s*\{|data: \[DONE\]')


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be sent again and again, as bytes."""

    port: int
    request: bytes

    @classmethod
    def of(cls, port: int, path: str, body: Mapping[str, object], token: str = "") -> Asked:
        raw = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"host: localhost:{port}", "content-type: application/json"]
        lines += [f"authorization: Bearer {token}"] if token else []
        head = "\r\n".join((*lines, f"content-length: {len(raw)}", "", ""))
        return cls(port, head.encode() + raw)


@dataclass(slots=True)
class Run:
    """What a run of chats took. Times in milliseconds."""

    whole_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    events: int = 0
    took_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.whole_ms) / self.took_s


def measure(scale: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="soma-chats-") as folder, running_fake() as fake:
        home = Path(folder) / "soma"
        fake.write_catalogue(home / "providers.toml")
        with running_mesh(home, "TEST") as mesh:
            pids = {part: facts["pid"] for part, facts in mesh.status()["parts"].items() if part in PARTS}
            pids |= {"provider": fake.pid, "load": os.getpid()}
            chat = Asked.of(mesh.port, "/v1/chat:stream", {"text": "How much is it?"}, mesh.token())
            asked = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "How much is it?"}]}
            straight = Asked.of(fake.port, "/v1/chat/completions", asked)
            short = compared(chat, straight, pids, fake, WORDS_SHORT, round(CHATS * scale), scale)
            long = compared(chat, straight, pids, fake, WORDS_LONG, round(STREAMS * scale), scale)
            check_provider(mesh, len(short[0].whole_ms) + len(long[0].whole_ms))
    return [
        *figures("chats of 8 words", *short),
        *figures("streams of 64 chunks", *long),
        Figure("tokens in an event of 64 chunks", WORDS_LONG * len(long[0].whole_ms) / long[0].events),
    ]


def compared(
    chat: Asked, straight: Asked, pids: Mapping[str, int], fake: Fake, words: int, chats: int, scale: float
) -> tuple[Run, Run]:
    """Through the mesh, and straight from the provider."""
    fake.behave(words=words)
    uvloop.run(asking(chat, WARM_UP))
    with spending(pids) as spent:
        run = uvloop.run(asking(chat, max(AT_ONCE, chats)))
    run.cpu_s = spent
    return run, uvloop.run(asking(straight, max(AT_ONCE, round(STRAIGHT * scale))))


def figures(name: str, run: Run, straight: Run) -> list[Figure]:
    each = {part: spent_s / len(run.whole_ms) * 1000 for part, spent_s in run.cpu_s.items()}
    where = ", ".join(f"{part} {ms:.1f}" for part, ms in sorted(each.items(), key=lambda item: -item[1]))
    whole = f"p95 {percentile(run.whole_ms, 95):.0f} ms"
    first = f"p95 {percentile(run.first_ms, 95):.0f} ms"
    return [
        Figure(f"{name}, {AT_ONCE} in flight", run.rate, "/s"),
        Figure(f"{name}: p50", statistics.median(run.whole_ms), "ms", note=whole),
        Figure(f"{name}: p50 to the first text", statistics.median(run.first_ms), "ms", note=first),
        Figure(f"{name}: CPU each", sum(each.values()), "ms", note=where),
        Figure(f"{name}: rate / provider alone", run.rate / straight.rate, note=f"{straight.rate:,.0f}/s"),
    ]


async def asking(asked: Asked, times: int, at_once: int = AT_ONCE) -> Run:
    """Ask so many times, so many side by side."""
    run, left, began = Run(), iter(range(times)), time.perf_counter()

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
        try:
            for _ in left:
                async with asyncio.timeout(CALL_S):
                    await one(asked, reader, writer, run)
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    run.took_s = time.perf_counter() - began
    return run


async def one(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, run: Run) -> None:
    """One answer to its last chunk. It must be whole."""
    began, first, got = time.perf_counter(), 0.0, b""
    writer.write(asked.request)
    while not got.endswith(b"0\r\n\r\n"):
        came = await reader.read(65536)
        assert came, f"cut off: {got[-500:]!r}"
        got += came
        if not first and TEXT.search(got):
            first = time.perf_counter()
    assert got.startswith(b"HTTP/1.1 200"), got[:500]
    assert WHOLE.search(got), got[-500:]
    run.whole_ms.append((time.perf_counter() - began) * 1000)
    run.first_ms.append((first - began) * 1000)
    run.events += len(TEXT.findall(got))


def check_provider(mesh: Mesh, chats: int) -> None:
    """The fake provider answered them, and nobody else."""
    found = mesh.rows("SELECT provider, count(*) FROM t_acme.decisions GROUP BY provider")
    assert [row["provider"] for row in found] == ["fake"], found
    assert found[0]["count"] >= chats, found
