"""What is old leaves a Kafka when all have read it and the archive has it, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common.blobs import Blobs, open_blobs
from services.common.clock import SystemClock
from services.common.log.kafka.log import KafkaLog, open_kafka_log
from services.common.log.kafka.reading import Pulse
from services.common.log.log import Place
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.common.testing import HandClock
from services.workers.archive.archive import Archive
from services.workers.archive.archiver import GROUP, Archiver
from services.workers.retention.records import Records
from tests.archiving import AT_ONCE, World, a_row, open_world
from tests.kafka import Broker

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOPIC = "enterprise.mode.changed"
PLACE: Place = (TOPIC, 0)
DAY_S = 24 * 3600.0
DAYS = {TOPIC: 90}


@dataclass(frozen=True, slots=True)
class Scene:
    world: World
    log: KafkaLog
    blobs: Blobs
    clock: HandClock
    """The days that records are counted by; the broker's own clock goes as ever."""
    first: int
    """Where the partition began."""

    @property
    def records(self) -> Records:
        return Records(self.world.db, self.log, self.blobs, DAYS, self.clock)

    async def tell(self, count: int) -> None:
        await self.world.tell(*[a_row(topic=TOPIC) for _ in range(count)])

    async def archive(self) -> None:
        """All that is there; and all others have read it."""
        sight = Sight(Tracer(0.0), CollectorRegistry())
        async with asyncio.timeout(20), self.log.reader(GROUP, [TOPIC]) as reader:
            one = Archiver(self.world.db, reader, Archive(self.blobs, self.log), sight, SystemClock(), AT_ONCE, 0.05)
            while (await self.log.standing(GROUP)).get(PLACE, 0) < (await self.log.ends(TOPIC))[PLACE][1]:
                await one.write(await one.read())
        await self.read_by_all()

    async def read_by_all(self) -> None:
        for group in set(await self.log.groups()) - {GROUP}:
            await self.log.stand(group, await self.log.at(TOPIC, self.clock.now() + timedelta(days=1)))

    async def span(self) -> tuple[int, int]:
        """What is there, counted from where the partition began."""
        first, end = (await self.log.ends(TOPIC))[PLACE]
        return first - self.first, end - self.first


@pytest_asyncio.fixture(loop_scope="session")
async def scene(broker: Broker, tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        open_world(tmp_path) as world,
        open_kafka_log(broker.url, None, pulse=Pulse(beat_s=0.1, session_s=1.0)) as log,
    ):
        await log.make_topics()
        end = (await log.ends(TOPIC))[PLACE][1]
        await log.trim({PLACE: end})
        for group in {GROUP, *await log.groups()}:
            await log.stand(group, {PLACE: end})
        blobs = open_blobs(f"file://{tmp_path / 'archive'}")
        yield Scene(replace(world, log=log), log, blobs, HandClock(SystemClock().now()), end)


async def test_what_is_old_and_archived_goes_and_what_is_young_stays(scene: Scene) -> None:
    await scene.tell(5)
    await scene.archive()
    assert await scene.records.sweep() == {}
    scene.clock.move(91 * DAY_S)
    assert await scene.records.sweep() == {PLACE: scene.first + 5}
    assert await scene.span() == (5, 5)
    await scene.tell(2)
    assert [entry.offset - scene.first for entry in await scene.log.read(PLACE, scene.first + 5, 10)] == [5, 6]


async def test_what_is_not_archived_stays_however_old(scene: Scene) -> None:
    await scene.tell(3)
    await scene.archive()
    await scene.tell(2)
    scene.clock.move(900 * DAY_S)
    await scene.records.sweep()
    assert await scene.span() == (3, 5)
    assert await scene.records.sweep() == {}


async def test_what_a_group_has_yet_to_read_stays(scene: Scene) -> None:
    await scene.tell(4)
    await scene.archive()
    await scene.log.stand("sealer", {PLACE: scene.first + 1})
    scene.clock.move(91 * DAY_S)
    await scene.records.sweep()
    assert await scene.span() == (1, 4)


async def test_what_the_archive_has_lost_stays(scene: Scene, tmp_path: Path) -> None:
    await scene.tell(4)
    await scene.archive()
    scene.clock.move(91 * DAY_S)
    (name,) = await scene.blobs.list("acme")
    (tmp_path / "archive" / name).rename(tmp_path / "aside")
    assert await scene.records.sweep() == {}
    (tmp_path / "aside").replace(tmp_path / "archive" / name)
    await scene.records.sweep()
    assert await scene.span() == (4, 4)


async def test_without_an_archive_what_all_have_read_goes_by_its_age(scene: Scene) -> None:
    await scene.tell(3)
    await scene.archive()
    records = replace(scene.records, blobs=None)
    assert await records.sweep() == {}
    scene.clock.move(91 * DAY_S)
    await records.sweep()
    assert await scene.span() == (3, 3)
