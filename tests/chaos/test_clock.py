"""Clocks that jump two hours, ahead and back: those of rooms and workers, and the database's own. Nothing is lost or
there twice, the order is that of commits, and nobody waits for a clock to catch up."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common import schema
from services.common.background import alongside
from services.common.blobs import open_blobs
from services.common.clock import new_id
from services.common.db import open_database
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.archive.archive import Archive
from services.workers.archive.archiver import GROUP, Archiver
from services.workers.archive.spool import Bounds
from services.workers.bench import Bench
from services.workers.sealer import sealer
from tests.archiving import Lag, archived, everything
from tests.chaos.scene import Scene, Server, open_scene, running_server, until, until_dead
from tests.consuming import TOPIC

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOURS = 2
JUMPS = (HOURS, -HOURS, -HOURS, HOURS)
READS_CLOCK = time.time_ns
SHIFT = {
    "log_members": "expire_time = expire_time + $1",
    "log_groups": "expire_time = expire_time + $1",
    "retries": "due_time = due_time + $1",
    "log_heads": "time = time + greatest($1, interval '0')",
}
LOGGED = {"log": "time = time + $1", "log_groups": "since = since + $1"}
"""While nobody reads it."""


@dataclass(slots=True)
class Jumping:
    """The wall clock of a process, so many hours off."""

    hours: int = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time_ns() / 1e9, UTC)

    def time_ns(self) -> int:
        return READS_CLOCK() + self.hours * 3600 * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Jumping:
    """This process's: ids are made by it too."""
    clock = Jumping()
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    return clock


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running_server(tmp_path_factory.mktemp("postgres") / "postgres") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def scene(server: Server) -> AsyncIterator[Scene]:
    async with open_scene(server, server.folder.parent / "keys") as scene:
        yield scene


async def test_events_are_in_the_order_of_their_commits_seen_once_and_sealed_once_whatever_a_rooms_clock_does(
    scene: Scene, clock: Jumping
) -> None:
    await scene.stand_at_end("sealer", "agent.audit")
    async with open_database(scene.server.url("workers"), scene.keys_url, clock) as db:
        bench = Bench(db, scene.log, Sight(Tracer(0.0), CollectorRegistry()), scene.keys_url)
        async with alongside(sealer.work(bench), name="sealer"):
            async with scene.writing(clock=clock) as writers:
                for hours in JUMPS:
                    await scene.some_more(writers)
                    clock.hours += hours
                scene.start("relay", "consumer")
                await scene.some_more(writers)
            await until(scene.through)
            await until(lambda: scene.through("sealer", "agent.audit"))
    await scene.check(writers)
    await scene.check_sealed(writers)
    entries = await everything(scene.log)
    assert len({entry.id for entry in entries}) == len(entries)
    ids = [entry.id for entry in entries if entry.key == entries[-1].key and entry.topic == entries[-1].topic]
    assert any(earlier > later for earlier, later in pairwise(ids)), "no clock went back"


async def test_every_event_is_in_one_object_of_the_archive_whatever_the_clocks_do(
    scene: Scene, clock: Jumping, tmp_path: Path
) -> None:
    blobs, sight = open_blobs(f"file://{tmp_path / 'archive'}"), Sight(Tracer(0.0), CollectorRegistry())
    scene.start("relay")
    async with scene.log.reader(GROUP, [TOPIC, "agent.audit"]) as reader:
        bounds = Bounds(age=timedelta(minutes=1))
        archiver = Archiver(scene.db, reader, Archive(blobs, scene.log), sight, clock, bounds, look_s=0.05)
        async with alongside(archiver.run(), name="archiver"):
            async with scene.writing(clock=clock) as writers:
                for hours in JUMPS:
                    await scene.some_more(writers)
                    clock.hours += hours
                    await shift(scene, hours)
                await scene.some_more(writers)
            await until(lambda: is_told(scene))
            clock.hours += 24
            await until(lambda: is_archived(scene))
    assert await archived(blobs) == await everything(scene.log)
    assert len(await blobs.list("acme")) > len({(e.topic, e.part) for e in await everything(scene.log)})


@pytest.mark.parametrize("point", ["consumer: put off", "consumer: handled", "relay: moved"])
async def test_nobody_waits_for_the_clock_when_that_of_the_database_goes_back_behind_a_dead_worker(
    scene: Scene, point: str
) -> None:
    async with scene.writing() as writers:
        await until_dead(scene.start(SOMA_CRASH_AT=f"{point}:1"))
        await shift(scene, HOURS, SHIFT, LOGGED)
        scene.start()
        await scene.some_more(writers)
    await until(scene.through)
    await scene.check(writers)


async def test_two_workers_do_the_work_of_one_while_the_clock_of_the_database_jumps(scene: Scene) -> None:
    for _ in range(2):
        scene.start()
    async with scene.writing() as writers:
        for hours in JUMPS:
            await scene.some_more(writers)
            await shift(scene, hours)
        await scene.some_more(writers)
    await until(scene.through)
    await scene.check(writers)


async def test_ids_of_one_instant_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    ids = [new_id() for _ in range(100_000)]
    assert len(set(ids)) == len(ids)


async def test_of_two_ids_of_one_millisecond_the_later_sorts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(10**18, 10**18 + 10**6, 250))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    ids = [new_id() for _ in range(4000)]
    assert ids == sorted(ids)
    assert {(id.version, id.variant, id.int >> 80) for id in ids} == {(7, uuid.RFC_4122, 10**12)}


async def shift(scene: Scene, hours: int, *written: Mapping[str, str]) -> None:
    """To what is written down the database's clock has gone back by so much, or ahead."""
    async with schema.administering(scene.server.admin_url) as conn:
        for table, change in chain(*(changes.items() for changes in written or (SHIFT,))):
            async with conn.transaction():
                await conn.execute(f"LOCK TABLE soma.{table} IN SHARE ROW EXCLUSIVE MODE")
                await conn.execute(f"UPDATE soma.{table} SET {change}", timedelta(hours=hours))


async def is_told(scene: Scene) -> bool:
    """All is in the log."""
    return not await scene.db.look("SELECT FROM soma.outbox LIMIT 1")


async def is_archived(scene: Scene) -> bool:
    return await Lag(scene.log)() == 0
