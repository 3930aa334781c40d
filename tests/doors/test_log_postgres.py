"""The log in Postgres keeps the laws of the log, and some more: nothing twice, no gap, days as tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from services.common.clock import new_id
from services.common.ears import Ear
from services.common.errors import Unavailable
from services.common.log.log import LeaseLost, Reader, Shard
from services.common.log.postgres.leases import Seat
from services.common.log.postgres.log import open_postgres_log
from services.common.log.postgres.member import Member
from services.common.log.topics import part
from tests.doors import log_suite as suite
from tests.doors.log_suite import *  # noqa: F403 - the laws
from tests.doors.log_suite import ROOM, TOPIC, Engine, a_group, a_key, a_row, first_run, handle, has, read, tell

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEASE_S = 6.0
MORTAL_S = 0.6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("log")
    async with suite.outbox_database(folder) as (db, admin_url), open_postgres_log(db, lease_s=LEASE_S) as log:

        @asynccontextmanager
        async def mortal(group: str, topics: Sequence[str]) -> AsyncIterator[Reader]:
            member = Member(db, Seat(group, tuple(topics), new_id(), MORTAL_S), Ear(), Ear())
            while not member.held:
                with suppress(Unavailable):  # it stood still for so long
                    await member.take_turn()
            yield member

        await log.make_topics()
        yield Engine(db, log, admin_url, mortal, MORTAL_S)


@asynccontextmanager
async def administering(engine: Engine) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    conn = await asyncpg.connect(engine.admin_url)
    try:
        yield conn
    finally:
        await conn.close()


async def test_a_reader_that_lost_its_partition_is_refused(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await suite.ends(engine))
    async with engine.mortal(group, [TOPIC]) as stale:
        ids = await tell(engine, *(a_row(key) for _ in range(5)))
        await engine.publish()
        run = await first_run(stale)
        async with engine.log.reader(group, [TOPIC]) as living:
            taken = await first_run(living)
            with pytest.raises(LeaseLost):
                await handle(engine, stale, run)
            await handle(engine, living, taken)
            with pytest.raises(LeaseLost):
                await handle(engine, stale, run)
        assert [entry.id for entry in taken] == ids


async def test_what_has_gathered_is_given_out_together(engine: Engine) -> None:
    key = a_key()
    async with suite.reading(engine, gather_s=1.0) as reader:
        await tell(engine, a_row(key))
        await engine.publish()
        await handle(engine, reader, await first_run(reader))
        ids = []
        for _ in range(3):
            ids += await tell(engine, a_row(key))
            await engine.publish()
        assert [entry.id for entry in await first_run(reader)] == ids


async def test_what_was_begun_before_a_seek_does_not_count(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await suite.ends(engine))
    async with engine.log.reader(group, [TOPIC]) as reader:
        await tell(engine, *(a_row(key) for _ in range(3)))
        await engine.publish()
        run = await first_run(reader)
        await engine.log.stand(group, {run[0].place: run[0].offset})
        with pytest.raises(LeaseLost):
            await handle(engine, reader, run)
        await reader.rewind(run[0].place)
        assert await first_run(reader) == run


async def test_a_run_is_refused_when_the_one_before_it_was_not_done(engine: Engine) -> None:
    key = a_key()
    async with suite.reading(engine) as reader:
        await tell(engine, *(a_row(key) for _ in range(4)))
        await engine.publish()
        run = await first_run(reader)
        with pytest.raises(LeaseLost):
            await handle(engine, reader, run[2:])
        await handle(engine, reader, run[:2])
        await handle(engine, reader, run[2:])


async def test_shares_differ_by_one_at_most_as_members_come_and_go(engine: Engine) -> None:
    group = a_group()
    async with AsyncExitStack() as doors:
        for sizes in ([4], [2, 2], [2, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1, 0]):
            await doors.enter_async_context(engine.log.reader(group, [TOPIC]))
            await until_shared(engine, group, sizes)
    await until_shared(engine, group, [])


@pytest_asyncio.fixture(loop_scope="module")
async def patient(engine: Engine) -> AsyncIterator[Engine]:
    """Its leases outlast a machine that stands still."""
    async with open_postgres_log(engine.db, lease_s=2 * LEASE_S) as log:
        yield replace(engine, log=log, lease_s=2 * LEASE_S)


async def test_a_partition_that_is_worked_on_is_handed_over_when_that_is_done(patient: Engine) -> None:
    engine, group = patient, a_group()
    await engine.log.stand(group, await suite.ends(engine))
    ids = await tell(engine, *(a_row(a_key()) for _ in range(24)))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as first:
        runs = await first.fetch(500, 1)
        assert len(runs) == 4, "all partitions are worked on"
        async with engine.log.reader(group, [TOPIC]) as second:
            await until_members(engine, group, 2)
            assert not await second.fetch(10, 1.2 * engine.lease_s), "though it has a share, it must wait"
            for run in runs:
                await handle(engine, first, run)
            assert {entry.id for run in runs for entry in run} == set(ids)
            await until_shared(engine, group, [2, 2])


async def test_a_relay_that_dies_between_two_steps_leaves_no_gap_and_nothing_twice(engine: Engine) -> None:
    key = a_key()
    place = (TOPIC, part(TOPIC, key))
    start = (await suite.ends(engine))[place]
    ids = await tell(engine, *(a_row(key) for _ in range(6)))
    for most in (6, 2):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it dies after it has drained
            async with engine.db.own(ROOM) as tx:
                await engine.log.drain(tx, Shard(0, 1), most)
                raise ZeroDivisionError
    await engine.publish()

    entries = await engine.log.read(place, start, 100)
    assert [(entry.offset, entry.id) for entry in entries] == list(enumerate(ids, start))


async def test_times_do_not_fall_when_the_clock_does(engine: Engine) -> None:
    key = a_key()
    place = (TOPIC, part(TOPIC, key))
    ahead = datetime.now(UTC) + timedelta(hours=3)
    async with administering(engine) as conn:
        before = await conn.fetchval("SELECT time FROM soma.log_heads WHERE (topic, part) = ($1, $2)", *place)
        await conn.execute("UPDATE soma.log_heads SET time = $3 WHERE (topic, part) = ($1, $2)", *place, ahead)
        start = (await suite.ends(engine))[place]
        async with suite.reading(engine) as reader:
            ids = await tell(engine, a_row(key))
            await engine.publish()
            await read(engine, reader, has(ids))
        await conn.execute("UPDATE soma.log_heads SET time = $3 WHERE (topic, part) = ($1, $2)", *place, before)
        assert [entry.time for entry in await engine.log.read(place, start, 10)] == [ahead]
        await conn.execute("DELETE FROM soma.log WHERE time = $1", ahead)


async def test_what_the_net_has_caught_moves_into_the_table_of_its_day(engine: Engine) -> None:
    key = a_key()
    place, tomorrow = (TOPIC, part(TOPIC, key)), datetime.now(UTC).date() + timedelta(days=1)
    table = f"log_{tomorrow:%Y%m%d}"
    noon = datetime(tomorrow.year, tomorrow.month, tomorrow.day, 12, tzinfo=UTC)
    async with administering(engine) as conn:
        await conn.execute(f"DROP TABLE soma.{table}")
        await conn.execute("UPDATE soma.log_heads SET time = $3 WHERE (topic, part) = ($1, $2)", *place, noon)
        ids = await tell(engine, a_row(key))
        await engine.publish()
        where = "SELECT tableoid::regclass::text FROM soma.log WHERE id = $1"
        assert await conn.fetchval(where, ids[0]) == "soma.log_default"
        await engine.log.make_topics()
        assert await conn.fetchval(where, ids[0]) == f"soma.{table}"
        await conn.execute("DELETE FROM soma.log WHERE id = $1", ids[0])
        now = datetime.now(UTC)
        await conn.execute("UPDATE soma.log_heads SET time = $3 WHERE (topic, part) = ($1, $2)", *place, now)


async def test_what_retention_has_dropped_is_passed_over(engine: Engine) -> None:
    group, key = a_group(), a_key()
    place = (TOPIC, part(TOPIC, key))
    ids = await tell(engine, *(a_row(key) for _ in range(6)))
    await engine.publish()
    end = (await suite.ends(engine))[place]
    async with administering(engine) as conn:
        await conn.execute('DELETE FROM soma.log WHERE (topic, part) = ($1, $2) AND "offset" < $3', *place, end - 2)
        async with engine.log.reader(group, [TOPIC]) as reader:
            books = await read(engine, reader, has(ids[4:]))
            assert [entry.offset for entry in books.entries if entry.place == place] == [end - 2, end - 1]
        assert (await engine.log.ends(TOPIC))[place] == (end - 2, end)
        await engine.log.stand(group, await suite.ends(engine) | {place: 0})
        await conn.execute("DELETE FROM soma.log WHERE (topic, part) = ($1, $2)", *place)
        async with engine.log.reader(group, [TOPIC]) as reader:
            assert not await reader.fetch(10, 0.05)
            ids = await tell(engine, a_row(key))
            await engine.publish()
            await read(engine, reader, has(ids))


async def test_a_run_ends_when_it_has_grown_large(engine: Engine) -> None:
    key, large = a_key(), '{"text":"' + "x" * 1_500_000 + '"}'
    async with suite.reading(engine) as reader:
        ids = await tell(engine, *(a_row(key, large) for _ in range(5)))
        await engine.publish()
        run = await first_run(reader)
        assert [entry.id for entry in run] == ids[:3]
        await handle(engine, reader, run)
        assert [entry.id for entry in await first_run(reader)] == ids[3:]


async def test_only_workers_see_the_log(engine: Engine) -> None:
    async with administering(engine) as conn:
        for table in ("log", "log_default", "log_heads", "log_groups", "log_members", "outbox_aside"):
            for role in ("soma_tenant", "soma_room"):
                rights = "SELECT, INSERT, UPDATE, DELETE"
                assert not await conn.fetchval("SELECT has_table_privilege($1, $2, $3)", role, f"soma.{table}", rights)


async def until_shared(engine: Engine, group: str, sizes: list[int]) -> None:
    counted = 'SELECT count(*) AS n FROM soma.log_groups WHERE "group" = $1 AND holder IS NOT NULL GROUP BY holder'
    wanted = sorted(size for size in sizes if size)
    await until_members(engine, group, len(sizes))
    async with asyncio.timeout(suite.DEADLINE_S):
        while sorted(row["n"] for row in await engine.db.look(counted, group)) != wanted:
            await asyncio.sleep(0.01)


async def until_members(engine: Engine, group: str, members: int) -> None:
    counted = 'SELECT count(*) AS n FROM soma.log_members WHERE "group" = $1'
    async with asyncio.timeout(suite.DEADLINE_S):
        while (await engine.db.look(counted, group))[0]["n"] != members:
            await asyncio.sleep(0.01)
