"""What the event log costs: an event with its audit row beside a bare transaction; the relay; a reader; all the way."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop
from prometheus_client import CollectorRegistry

from services.common import events, outbox, schema
from services.common.background import alongside
from services.common.caller import WORKERS, Caller
from services.common.clock import SystemClock, new_id
from services.common.consumer.consumer import Consumer
from services.common.db import Database, Transaction, open_database
from services.common.log.log import Entry, Reader, Shard
from services.common.log.postgres.log import PostgresLog, open_postgres_log
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.relay import Relay
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.bench.figure import Figure
from tests.bench.spent import percentile
from tests.bench.telling import LATE_S, Telling
from tests.stores import running_postgres

AT_ONCE, ROUNDS = 16, 4
APPENDED = 1500
"""Transactions of a round."""
BACKLOG = 30_000
READ_AT_ONCE = 500
RATE, SECONDS, WARM_S = 500, 8, 1.0
TOPIC = "agent.messages"
ADA = Caller("acme", "ada", frozenset({"member"}), frozenset())

STATE = "INSERT INTO requests (subject, request_id, body_hash) VALUES ('ada', $1, '')"
BARE_STATE = "INSERT INTO t_acme.requests (subject, request_id, body_hash) VALUES ('ada', $1, '')"
BARE_EVENT = """
INSERT INTO soma.bare (id, tenant, aggregatetype, aggregateid, type, payload, slot, traceparent)
VALUES ($1, 'acme', 'agent.messages', 'acme/ada', 'turn.asked', $2, 3, '')
"""
PAYLOAD = '{"conversation":"conversations/0190f3a4-0000-7000-8000-000000000000","text":"' + "x" * 400 + '"}'


@dataclass(frozen=True, slots=True)
class Bench:
    room: Database
    """A room that tells events."""
    workers: Database
    bare: asyncpg.Pool[asyncpg.Record]
    log: PostgresLog
    room_url: str
    keys_url: str
    sight: Sight

    def relay(self) -> Relay:
        return Relay(self.workers, self.log, self.sight)


def measure(scale: float) -> list[Figure]:
    return uvloop.run(measured(scale))


async def measured(scale: float) -> list[Figure]:
    async with open_bench() as bench:
        appended = await append_rates(bench, max(100, round(APPENDED * scale)))
        events = max(2000, round(BACKLOG * scale))
        drained = await drain_rate(bench, events)
        consumed = await consume_rate(bench, events)
        delays = await delays_ms(bench, max(1.0, SECONDS * scale))
        inserted = max(told for told, _ in appended)
        bare = max(bare for _, bare in appended)
        ratio = sum(told for told, _ in appended) / sum(bare for _, bare in appended)
        return [
            Figure("transaction with event and audit / bare", ratio, "", 0.6, note=f"{AT_ONCE} in flight"),
            Figure("transactions with event and audit", inserted, "/s", note=f"bare with two INSERTs: {bare:,.0f}/s"),
            Figure("relay / peak of events told", drained / (2 * inserted), "", 3),
            Figure("relay", drained, "/s", note=f"a backlog of {events:,}"),
            Figure("one reader, committed", consumed, "/s", 20_000, note=f"in batches of {READ_AT_ONCE}"),
            Figure(f"told to handled at {RATE}/s, p50", percentile(delays, 50), "ms"),
            Figure(f"told to handled at {RATE}/s, p99", percentile(delays, 99), "ms", 50, at_most=True),
        ]


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as doors:
        folder = Path(doors.enter_context(tempfile.TemporaryDirectory(prefix="soma-bench-")))
        folder.chmod(0o755)
        admin_url = await doors.enter_async_context(running_postgres(folder / "postgres"))
        await schema.migrate(admin_url, ("agent", "workers"))
        await schema.add_tenant(admin_url, "acme", ("agent",))
        urls = {}
        for name in ("agent", "workers"):
            await schema.set_room_password(admin_url, name, "bench")
            urls[name] = f"postgresql://soma_{name}:bench@{admin_url.rpartition('@')[2]}"
        keys, clock = f"file://{folder / 'keys'}", SystemClock()
        room = await doors.enter_async_context(open_database(urls["agent"], keys, clock, connections=AT_ONCE))
        workers = await doors.enter_async_context(open_database(urls["workers"], keys, clock))
        bare = await doors.enter_async_context(asyncpg.create_pool(admin_url, min_size=2, max_size=AT_ONCE))
        await bare.execute("CREATE TABLE soma.bare (LIKE soma.outbox INCLUDING ALL)")
        log = await doors.enter_async_context(open_postgres_log(workers))
        await log.make_topics()
        yield Bench(room, workers, bare, log, urls["agent"], keys, Sight(Tracer(0.0), CollectorRegistry()))


async def append_rates(bench: Bench, transactions: int) -> list[tuple[float, float]]:
    """Transactions a second, told and bare in turns."""
    for deed in (bench_tell(bench), bench_bare(bench)):
        await rate(deed, 100)
    return [
        (await rate(bench_tell(bench), transactions), await rate(bench_bare(bench), transactions))
        for _ in range(ROUNDS)
    ]


def bench_tell(bench: Bench) -> Callable[[], Awaitable[None]]:
    async def tell() -> None:
        async with bench.room.tenant(ADA, action="turn.asked") as tx:
            await tx.execute(STATE, new_id())
            tx.about("conversations/x")
            await asked_event(tx)

    return tell


async def asked_event(tx: Transaction) -> None:
    event = MessageEvent(type="turn.asked", conversation=f"conversations/{uuid4()}")
    await events.append(tx, event, text="a question of some words")


def bench_bare(bench: Bench) -> Callable[[], Awaitable[None]]:
    async def write() -> None:
        async with bench.bare.acquire() as conn, conn.transaction():
            await conn.execute(BARE_STATE, new_id())
            await conn.execute(BARE_EVENT, new_id(), PAYLOAD)

    return write


async def rate(deed: Callable[[], Awaitable[None]], times: int) -> float:
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await deed()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return times / (time.perf_counter() - began)


async def drain_rate(bench: Bench, events: int) -> float:
    relay = bench.relay()
    while await relay.step(Shard(0, 1), relay.most):
        pass
    for _ in range(events // 1000):
        rows = [
            outbox.Row(str(new_id()), "acme", TOPIC, f"acme/{n % 64}", "turn.asked", PAYLOAD, "") for n in range(1000)
        ]
        async with bench.workers.own(WORKERS) as tx:
            await tx.execute(*outbox.insert(rows))
    began, moved = time.perf_counter(), 0
    while gone := await relay.step(Shard(0, 1), relay.most):
        moved += gone
    return moved / (time.perf_counter() - began)


async def consume_rate(bench: Bench, events: int) -> float:
    read = 0
    async with bench.log.reader("bench", [TOPIC]) as reader:
        began = time.perf_counter()
        while runs := await reader.fetch(READ_AT_ONCE, 0):
            await handle(bench, reader, runs)
            read += sum(map(len, runs))
        return read / (time.perf_counter() - began)


async def handle(bench: Bench, reader: Reader, runs: Sequence[Sequence[Entry]]) -> None:
    async with bench.workers.own(WORKERS) as tx:
        for run in runs:
            await reader.hold(tx, run)
    for run in runs:
        await reader.commit(run)


async def delays_ms(bench: Bench, seconds: float) -> list[float]:
    """From before a transaction, in another process, to the hands of a consumer's handler; at a steady rate, and once
    connections and plans are made."""
    telling = Telling(bench.room_url, bench.keys_url, ADA, RATE, round(RATE * (WARM_S + seconds)))
    seen = dict[str, float]()

    async def handle(_tx: Transaction, entries: Sequence[Entry]) -> None:
        now = time.monotonic()
        seen.update((str(entry.id), now) for entry in entries)

    consumer = Consumer(bench.workers, bench.log, bench.sight, "bench", [TOPIC], handle)
    async with alongside(bench.relay().run(), name="relay"), alongside(consumer.run(), name="consumer"):
        began = await telling.told()
        async with asyncio.timeout(LATE_S):
            while not began.keys() <= seen.keys():
                await asyncio.sleep(0.05)
    start = min(began.values()) + WARM_S
    return [(seen[id] - at) * 1e3 for id, at in began.items() if at >= start]
