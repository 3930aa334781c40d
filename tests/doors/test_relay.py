"""The relay: woken by a bell, led by one, stopped by nobody's row, and back when Postgres is."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import Counter, Gauge

from services.common import events
from services.common.bell import RUNG
from services.common.caller import Caller
from services.common.db import Database
from services.common.errors import Unavailable
from services.common.log.log import Shard
from services.common.log.postgres.log import open_postgres_log
from services.common.log.relaying import lead
from services.workers.relay import PACE_S, Relay
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.doors.log_suite import (
    DEADLINE_S,
    ROOM,
    TOPIC,
    Books,
    Engine,
    a_key,
    a_row,
    has,
    outbox_database,
    read,
    reading,
    tell,
    write,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = Shard(0, 1)
AT_ACME = Caller.system("workers", "acme")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("relay")
    async with outbox_database(folder) as (db, admin_url), open_postgres_log(db) as log:
        await log.make_topics()
        yield Engine(db, log, admin_url, log.reader, 1)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        assert not task.done(), "a relay runs until it is told to end"
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def administering(engine: Engine) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    conn = await asyncpg.connect(engine.admin_url)
    try:
        yield conn
    finally:
        await conn.close()


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.01)


async def say(db: Database) -> None:
    """What a room does when something happened."""
    async with db.own(AT_ACME) as tx:
        await events.append(tx, asked())


def asked() -> MessageEvent:
    return MessageEvent(type="turn.asked", conversation=f"conversations/{uuid.uuid4()}")


async def waiting(engine: Engine) -> int:
    return int((await engine.db.look("SELECT count(*) AS n FROM soma.outbox"))[0]["n"])


def value(metric: Counter | Gauge, topic: str = "") -> float:
    labels = {"topic": topic} if topic else {}
    samples = [s for m in metric.collect() for s in m.samples if s.labels == labels and not s.name.endswith("_created")]
    return samples[0].value if samples else 0.0


async def test_what_was_told_is_in_the_log_long_before_the_relay_would_look_for_itself(engine: Engine) -> None:
    async with running(engine.relay()):
        await say(engine.db)
        await until(lambda: empty(engine))
        fastest = 9.0
        for _ in range(10):
            began = time.monotonic()
            await say(engine.db)
            await until(lambda: empty(engine))
            fastest = min(fastest, time.monotonic() - began)
    assert fastest < 0.2


async def test_what_is_told_in_quick_succession_goes_into_the_log_together(engine: Engine) -> None:
    key = a_key()
    async with running(engine.relay()):
        await until(lambda: empty(engine))
        began = time.monotonic()
        for _ in range(60):
            async with engine.db.own(ROOM) as tx:
                await write(tx, a_row(key))
                await tx.execute(f"NOTIFY {RUNG}")
        await until(lambda: empty(engine))
        took = time.monotonic() - began
    batches = await engine.db.look("SELECT count(DISTINCT time) AS count FROM soma.log WHERE key = $1", key)
    assert batches[0]["count"] <= took / PACE_S + 2


async def test_while_one_leads_another_does_nothing(engine: Engine) -> None:
    await tell(engine, a_row(a_key()))
    async with engine.db.own(ROOM) as tx:
        assert await lead(tx, WHOLE)
        assert await engine.relay().step(WHOLE, 10) == 0
    assert await engine.relay().step(WHOLE, 10) == 1


async def test_shards_are_led_apart_and_hold_the_rows_of_their_keys(engine: Engine) -> None:
    ids = await tell(engine, *(a_row(a_key()) for _ in range(64)))
    async with engine.db.own(ROOM) as tx:
        assert await lead(tx, Shard(0, 2))
        assert 0 < await engine.relay().step(Shard(1, 2), 100) < 64
    left = await engine.db.look("SELECT slot FROM soma.outbox WHERE id = ANY ($1::uuid[])", ids)
    assert {row["slot"] % 2 for row in left} == {0}
    await engine.publish()


async def test_a_leader_that_stands_still_in_mid_batch_loses_the_lead_and_what_it_has_done(engine: Engine) -> None:
    key = a_key()
    async with reading(engine) as reader:
        ids = await tell(engine, *(a_row(key) for _ in range(3)))
        with pytest.raises(Unavailable):  # noqa: PT012 - it is when it goes on that it learns of it
            async with engine.db.own(ROOM) as tx:
                assert await lead(tx, WHOLE, batch_s=2)
                await engine.log.drain(tx, WHOLE, 2)
                await until(lambda: engine.relay().step(WHOLE, 10))
        await engine.publish()
        assert (await read(engine, reader, has(ids))).by_key() == {key: ids}


async def test_a_row_that_the_engine_refuses_goes_aside_alone_and_is_tried_at_the_next_start(
    engine: Engine,
) -> None:
    key = a_key()
    rows = [a_row(key) for _ in range(60)]
    async with administering(engine) as conn, reading(engine) as reader:
        await conn.execute(f"ALTER TABLE soma.log ADD CONSTRAINT poison CHECK (id <> '{rows[40].id}')")
        ids = await tell(engine, *rows)
        relay = engine.relay()
        async with running(relay):
            books = await read(engine, reader, has(ids[:40] + ids[41:]))
            aside = await conn.fetch("SELECT id, reason FROM soma.outbox_aside")
            assert [row["id"] for row in aside] == [ids[40]]
            assert "poison" in aside[0]["reason"]
            assert value(relay.sight.relay_aside, TOPIC) == 1
        assert books.by_key()[key] == ids[:40] + ids[41:]
        await conn.execute("ALTER TABLE soma.log DROP CONSTRAINT poison")
        async with running(engine.relay()):
            await read(engine, reader, has(ids[40:41]))


async def test_how_far_behind_it_is_and_what_it_has_moved_are_metrics(engine: Engine) -> None:
    await tell(engine, a_row(a_key()), a_row(a_key()))
    async with administering(engine) as conn:
        await conn.execute("UPDATE soma.outbox SET create_time = create_time - interval '1 minute'")
    relay = engine.relay()
    async with AsyncExitStack() as doors:
        async with engine.db.own(ROOM) as tx:
            assert await lead(tx, WHOLE)
            await doors.enter_async_context(running(relay))
            await until(lambda: is_true(value(relay.sight.relay_lag_seconds) >= 60))
        await until(lambda: empty(engine))
        await until(lambda: is_true(value(relay.sight.relay_lag_seconds) == 0))
    assert value(relay.sight.relay_events, TOPIC) == 2


async def test_a_transaction_rings_when_it_has_told_something_and_only_then(engine: Engine) -> None:
    heard: list[str] = []
    async with administering(engine) as conn:
        await conn.add_listener(RUNG, lambda *told: heard.append(told[2]))
        async with engine.db.own(ROOM) as tx:
            await tx.execute("SELECT 1")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it breaks after it has told
            async with engine.db.own(AT_ACME) as tx:
                await events.append(tx, asked())
                raise ZeroDivisionError
        await conn.execute("NOTIFY soma_outbox")
        await until(lambda: conn.fetchval("SELECT $1::int > 0", len(heard)))
        assert len(heard) == 1
        await say(engine.db)
        await until(lambda: conn.fetchval("SELECT $1::int > 1", len(heard)))
    await engine.publish()


async def test_a_ring_that_found_its_connection_lost_rings_on_the_next_and_no_transaction_fails(engine: Engine) -> None:
    heard: list[str] = []
    async with administering(engine) as conn:
        await conn.add_listener(RUNG, lambda *told: heard.append(told[2]))
        await say(engine.db)
        await until(lambda: conn.fetchval("SELECT $1::int > 0", len(heard)))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $1"
        assert await conn.fetch(cut, f"NOTIFY {RUNG}")
        heard.clear()
        await say(engine.db)
        await until(lambda: conn.fetchval("SELECT $1::int > 0", len(heard)))
    await engine.publish()


async def test_relay_and_readers_go_on_when_postgres_was_gone(engine: Engine) -> None:
    """The last one: a second later the bell may ring for what was told here."""
    key, books = a_key(), Books()
    async with reading(engine) as reader, running(engine.relay()):
        ids = await tell(engine, a_row(key))
        async with administering(engine) as witness, administering(engine) as conn:
            os.kill(conn.get_server_pid(), signal.SIGKILL)  # Postgres ends all connections then, and recovers
            await until(lambda: is_true(witness.is_closed()))
        await until(lambda: done(lambda: say(engine.db)))
        ids += await tell(engine, a_row(key))
        await until(lambda: done(lambda: read(engine, reader, has(ids), books=books)))
        assert books.by_key()[key] == ids


async def empty(engine: Engine) -> bool:
    return await waiting(engine) == 0


async def is_true(said: bool) -> bool:
    return said


async def done(deed: Callable[[], Awaitable[object]]) -> bool:
    """Whether it could be done now."""
    try:
        await deed()
    except Unavailable:
        return False
    return True
