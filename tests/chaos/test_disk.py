"""A full disk: what was acknowledged outlives it, what was refused is not there, and all go on by themselves when there
is space."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common import schema
from services.common.background import alongside
from services.common.clock import SystemClock
from services.common.consumer.consumer import Consumer, Handle, Patience
from services.common.db import Transaction, open_database
from services.common.log.log import Entry
from services.common.log.postgres.log import open_postgres_log
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.local import postgres
from tests.chaos.disks import Disk, small_disk
from tests.chaos.scene import Scene, Server, Writers, given, open_scene, running_server, until
from tests.consuming import TOPIC, Seeing

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEGABYTES = 160
LONGEST_S = 16.0
"""So long a connection and a statement are waited for, one after the other (services/common/postgres.py)."""
AT_ONCE = Patience(attempts=1)
"""Who fails once is given up."""
LETTERS = 'SELECT state, reason FROM soma.retries WHERE "group" = $1'


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with small_disk(tmp_path_factory.mktemp("disk") / "small", MEGABYTES) as disk:
        yield disk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(disk: Disk) -> AsyncIterator[Server]:
    async with running_server(disk.folder / "postgres") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def scene(server: Server, disk: Disk) -> AsyncIterator[Scene]:
    """Its keys lie elsewhere."""
    try:
        async with open_scene(server, disk.folder.with_name("keys")) as scene:
            await scene.stand_at_end("sealer", "agent.audit")
            yield scene
    finally:
        disk.empty()


async def test_what_postgres_refuses_on_a_full_disk_is_not_there_and_all_else_is(scene: Scene, disk: Disk) -> None:
    follower = scene.start("relay", "consumer", "sealer")
    async with scene.writing() as writers:
        await scene.some_more(writers)
        disk.fill()
        await until(lambda: given(len(writers.refused) > 20))
        await scene.some_more(writers, 100)
        disk.empty()
        await scene.some_more(writers)
    await check(scene, writers)
    assert follower.exitcode is None


async def test_a_postgres_that_a_full_disk_has_ended_comes_back_with_all_it_acknowledged(
    scene: Scene, disk: Disk
) -> None:
    follower = scene.start("relay", "consumer", "sealer")
    async with scene.writing() as writers:
        await scene.some_more(writers)
        disk.fill()
        with suppress(Exception):
            async with schema.administering(scene.server.admin_url) as conn:
                await conn.execute("SELECT pg_switch_wal()")  # the next commit needs a new file
        await until(lambda: given(has_ended(scene.server)))
        await scene.some_more(writers, 20)
        disk.empty()
        await scene.server.start()
        await scene.some_more(writers)
    await check(scene, writers)
    assert follower.exitcode is None


async def test_an_event_whose_handler_finds_the_disk_full_waits_and_is_not_given_up(
    scene: Scene, tmp_path: Path
) -> None:
    """The disk is the handler's alone: that an event has failed could be written down."""
    scene.start("relay")
    handle = Counting(Seeing(scene.group))
    sight, url = Sight(Tracer(0.0), CollectorRegistry()), scene.server.url("workers")
    with small_disk(tmp_path / "small", 2) as disk:
        async with (
            seen_on(disk, scene),
            open_database(url, scene.keys_url, SystemClock(), connections=10) as db,
            open_postgres_log(db) as log,
        ):
            consumer = Consumer(db, log, sight, scene.group, (TOPIC,), handle, batch=20, patience=AT_ONCE)
            async with alongside(consumer.run(), name="consumer"):
                async with scene.writing() as writers:
                    await scene.some_more(writers)
                    disk.fill()
                    await until(lambda: given(handle.failed > 10))
                    assert not await scene.db.look(LETTERS, scene.group)
                    disk.empty()
                    await scene.some_more(writers)
                await until(scene.through)
    await scene.check(writers)


@dataclass(slots=True)
class Counting:
    """How often a handler has failed."""

    handle: Handle
    failed: int = 0

    async def __call__(self, tx: Transaction, entries: Sequence[Entry]) -> None:
        try:
            await self.handle(tx, entries)
        except Exception:
            self.failed += 1
            raise


@asynccontextmanager
async def seen_on(disk: Disk, scene: Scene) -> AsyncIterator[None]:
    """The handler's table is there for as long as the block."""
    postgres.own(disk.folder)
    async with schema.administering(scene.server.admin_url) as conn:
        await conn.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        await conn.execute("ALTER TABLE soma.seen SET TABLESPACE small")
        try:
            yield
        finally:
            disk.empty()
            await conn.execute("ALTER TABLE soma.seen SET TABLESPACE pg_default")
            await conn.execute("DROP TABLESPACE small")


def has_ended(server: Server) -> bool:
    return server.process is not None and server.process.returncode is not None


async def check(scene: Scene, writers: Writers) -> None:
    """Seen once, sealed once, and nobody was kept waiting."""
    await until(scene.through)
    await until(lambda: scene.through("sealer", "agent.audit"))
    await scene.check(writers)
    await scene.check_sealed(writers)
    assert writers.longest_s < LONGEST_S
