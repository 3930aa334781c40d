"""The archive: what the log holds is in it to the byte, once, before anything is done or dropped, whatever fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from services.common import schema
from services.common.background import alongside
from services.common.blobs import Blobs, open_blobs
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry
from services.common.log.postgres import leases
from services.common.log.postgres.leases import Seat
from services.common.log.postgres.member import Member
from services.common.log.topics import TOPICS
from services.common.outbox import Row
from services.workers.archive import segments
from services.workers.archive.archiver import GROUP, Archiver
from services.workers.archive.spool import Bounds
from services.workers.retention.days import Days
from tests.archiving import AT_ONCE, Lag, World, a_row, archived, archiver, arguments, everything, open_world
from tests.fake_s3 import FakeS3, open_fake_s3

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEPT = {topic.name: topic.days for topic in TOPICS.values()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("archive")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(one_world: World) -> World:
    await one_world.empty()
    return one_world


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_blobs(f"file://{tmp_path / 'archive'}")


async def run_once(world: World, blobs: Blobs, bounds: Bounds = AT_ONCE) -> Archiver:
    """An archiver that comes, archives all that is due, and goes."""
    async with asyncio.timeout(20), archiver(world.db, world.log, blobs, bounds) as one:
        await step(one)
        return one


async def step(one: Archiver) -> None:
    while came := await one.read():
        await one.write(came)
    await one.write()


async def some_of_all(world: World) -> None:
    await world.tell(
        *[a_row(tenant, who, topic) for topic in ("agent.tool", "agent.audit", "mode.changed") for tenant in
          ("acme", "globex") for who in ("ada", "bob") for _ in range(5)],
    )  # fmt: skip


async def test_what_the_log_holds_is_in_the_archive_to_the_byte_and_once(world: World, blobs: Blobs) -> None:
    await some_of_all(world)
    await world.tell(a_row(payload='{ "spaced" : [1.0, "\\u0000"],\n"lines":2}'))
    await run_once(world, blobs)
    assert await archived(blobs) == await everything(world.log)
    assert await Lag(world.log)() == 0
    assert await noted(world) == await sizes(blobs)


async def test_an_object_is_of_one_tenant_topic_hour_and_partition(world: World, blobs: Blobs) -> None:
    await some_of_all(world)
    await run_once(world, blobs)
    for name in await blobs.list("globex"):
        entries = segments.read(name, await blobs.get(name) or b"")
        first = entries[0]
        assert name.startswith(f"globex/{first.topic}/{first.time:%Y/%m/%d/%H}/postgres-{first.part:02d}-")
        assert {entry.tenant for entry in entries} == {"globex"}
        assert [entry.offset for entry in entries] == sorted({entry.offset for entry in entries})


async def test_an_hour_that_is_not_over_waits_and_what_is_older_than_the_bound_does_not(
    world: World, blobs: Blobs
) -> None:
    await some_of_all(world)
    one = await run_once(world, blobs, Bounds(age=timedelta(minutes=30)))
    assert not await blobs.list("acme")
    assert one.bytes
    await age(world, timedelta(minutes=31))
    await run_once(world, blobs, Bounds(age=timedelta(minutes=30)))
    assert await archived(blobs) == await everything(world.log)


@pytest.mark.parametrize("batch_bytes", [200_000, 10_000_000])
async def test_memory_is_bounded_and_what_does_not_fit_is_written_early(
    world: World, blobs: Blobs, batch_bytes: int
) -> None:
    for _ in range(20):
        await world.tell(*[a_row(who=f"p{n}", payload=f'"{"x" * 8000}"') for n in range(25)])
    bounds = Bounds(batch_bytes=batch_bytes, all_bytes=400_000, age=timedelta(days=1))
    async with archiver(world.db, world.log, blobs, bounds) as one:
        most = 0
        while came := await one.read():
            await one.write(came)
            most = max(most, one.bytes)
    assert most < 400_000
    there = await archived(blobs)
    assert len(there) > 400
    assert there == [entry for entry in await everything(world.log) if entry in set(there)]


async def test_an_event_that_is_twice_in_the_log_is_once_in_the_archive(world: World, blobs: Blobs) -> None:
    again = a_row()
    await world.tell(a_row(), again)
    await world.tell(again, a_row())
    await run_once(world, blobs)
    await world.tell(again)
    await run_once(world, blobs)
    assert [entry.offset for entry in await archived(blobs)] == [0, 1, 3]
    assert await Lag(world.log)() == 0


@pytest.mark.parametrize(
    "place",
    [
        "archiver: due",
        "archiver: put",
        "archiver: compared",
        "archiver: noted",
        "archiver: held",
        "archiver: committed",
    ],
)
async def test_an_archiver_killed_between_two_steps_loses_nothing_and_repeats_nothing(
    world: World, tmp_path: Path, blobs: Blobs, place: str
) -> None:
    await some_of_all(world)
    url = f"file://{tmp_path / 'archive'}"
    dead = await asyncio.create_subprocess_exec(
        *arguments(world, url), env=os.environ | {"SOMA_CRASH_AT": f"{place}:2", "SOMAGENT_MODE": "TEST"}
    )
    assert await asyncio.wait_for(dead.wait(), 20) == -9
    before = {name: await blobs.get(name) for name in await blobs.list("acme")}
    await world.tell(*[a_row(who=who) for who in ("ada", "bob") for _ in range(3)])
    await until_free(world)
    await run_once(world, blobs)
    assert await archived(blobs) == await everything(world.log)
    assert all([await blobs.get(name) == content for name, content in before.items()])
    assert await noted(world) == await sizes(blobs)


async def test_half_an_object_that_a_kill_left_is_no_object(world: World, tmp_path: Path, blobs: Blobs) -> None:
    await world.tell(a_row())
    (entry,) = await everything(world.log)
    file = tmp_path / "archive" / segments.name("postgres", [entry])
    file.parent.mkdir(parents=True)
    file.with_name(f"{file.name}#1").write_bytes(segments.write("postgres", [entry])[:30])
    await run_once(world, blobs)
    assert await archived(blobs) == [entry]


@pytest.mark.parametrize("share", [3, 5, 8])
async def test_an_object_of_an_earlier_try_counts_whether_it_holds_fewer_or_more(
    world: World, blobs: Blobs, share: int
) -> None:
    """The earlier try had `share` of eight; the later one has five, and the rest afterwards."""
    await world.tell(*[a_row() for _ in range(8)])
    entries = await everything(world.log)
    await put(blobs, entries[:share])
    async with archiver(world.db, world.log, blobs) as one:
        await one.read()
        (spool,) = one.spools.values()
        held, spool.entries[:] = spool.entries[:], spool.entries[:5]
        await one.write()
        spool.entries[:] = [entry for entry in held if entry.offset >= 5]
        await one.write()
    assert await archived(blobs) == entries
    assert await Lag(world.log)() == 0


def altered(entries: list[Entry]) -> list[Entry]:
    return [replace(entries[0], payload=b'{"n":666}'), *entries[1:]]


def longer_than_the_log(entries: list[Entry]) -> list[Entry]:
    return [*entries, replace(entries[-1], offset=99)]


def with_a_gap(entries: list[Entry]) -> list[Entry]:
    return [entries[0], *entries[2:]]


@pytest.mark.parametrize("forged", [altered, longer_than_the_log, with_a_gap, None])
async def test_where_the_archive_says_something_else_the_partition_stops_and_nothing_is_overwritten(
    world: World, tmp_path: Path, blobs: Blobs, forged: object
) -> None:
    await world.tell(*[a_row() for _ in range(3)], a_row(topic="agent.routing"))
    routed, *entries = await everything(world.log)
    name = segments.name("postgres", entries)
    content = segments.write("postgres", forged(entries)) if callable(forged) else b"rubbish"
    await blobs.put(name, content)
    one = await run_once(world, blobs)
    one.tell()
    assert await blobs.get(name) == content
    assert list(one.stopped) == [("agent.tool", entries[0].part)]
    assert one.sight.archive_stopped._value.get() == 1
    assert (await world.log.standing(GROUP)).get(entries[0].place) is None
    assert await one.archive.read(segments.name("postgres", [routed])) == [routed]


async def test_what_is_read_back_otherwise_than_written_is_not_acknowledged(
    world: World, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.tell(a_row())

    class Forgetful(Blobs):
        async def get(self, name: str) -> bytes | None:
            return (await super().get(name) or b"")[:-1]

    one = await run_once(world, Forgetful(blobs.store, blobs.folder))
    assert one.stopped
    assert await Lag(world.log)() == 1


@pytest.mark.parametrize("tenant", ["../acme", "a", "acme/agent.audit", ""])
async def test_an_event_of_what_is_no_tenant_stops_its_partition_alone(world: World, blobs: Blobs, tenant: str) -> None:
    await world.tell(a_row(), a_row(topic="agent.routing"), a_row(tenant))
    one = await run_once(world, blobs)
    one.tell()
    assert [place for place, _ in one.stopped.items()] == [(await strange(world, tenant)).place]
    assert one.sight.archive_stopped._value.get() == 1
    assert "agent.routing" in {entry.topic for entry in await archived(blobs)}
    assert {name.partition("/")[0] for name in await blobs.list("")} == {"acme"}


async def strange(world: World, tenant: str) -> Entry:
    [entry] = [entry for entry in await everything(world.log) if entry.tenant == tenant]
    return entry


async def test_a_fault_that_nobody_thought_of_stops_its_partition_alone(
    world: World, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = segments.write

    def failing(log: str, entries: Sequence[Entry]) -> bytes:
        if entries[0].topic == "agent.tool":
            raise RecursionError
        return write(log, entries)

    monkeypatch.setattr(segments, "write", failing)
    await world.tell(a_row(), a_row(topic="agent.routing"))
    one = await run_once(world, blobs)
    assert [topic for topic, _ in one.stopped] == ["agent.tool"]
    assert [entry.topic for entry in await archived(blobs)] == ["agent.routing"]


async def test_two_archivers_of_one_partition_agree(
    world: World, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has lost its lease without knowing it, and writes what it has read; the other has read further."""
    await world.tell(*[a_row() for _ in range(4)])
    async with archiver(world.db, world.log, blobs) as slow:
        await slow.read()
        monkeypatch.setattr(leases, "sit_down", away_for(seat_of(slow)))
        await until_free(world, by_force=True)
        await world.tell(*[a_row() for _ in range(4)])
        async with archiver(world.db, world.log, blobs) as quick:
            await quick.read()
            await slow.write()
            await step(quick)
    assert await archived(blobs) == await everything(world.log)
    assert await Lag(world.log)() == 0


async def test_an_archiver_that_did_not_hear_of_its_commit_reads_on_behind_it(world: World, blobs: Blobs) -> None:
    unheard = iter([True])

    class Unheard(Database):
        @asynccontextmanager
        async def own(self, caller: Caller, *, within_s: float = 0.0) -> AsyncIterator[Transaction]:
            async with Database.own(self, caller, within_s=within_s) as tx:
                yield tx
            if next(unheard, False):
                raise Unavailable("STORE_UNAVAILABLE", "The store is away.")

    db = Unheard(world.db.pool, world.db.clock, world.db.subjects)
    await world.tell(*[a_row() for _ in range(6)])
    async with asyncio.timeout(20), archiver(db, world.log, blobs) as one:
        with pytest.raises(Unavailable):
            await step(one)
        await world.tell(*[a_row() for _ in range(4)])
        await step(one)
    assert await archived(blobs) == await everything(world.log)
    assert await Lag(world.log)() == 0


async def test_a_store_that_answers_500_is_asked_again_and_nothing_is_acknowledged_until_it_has_it(
    world: World, bucket: tuple[FakeS3, Blobs]
) -> None:
    fake, blobs = bucket
    await some_of_all(world)
    fake.failing, fake.then_lost = 1_000_000, True
    async with archiver(world.db, world.log, blobs) as one, alongside(one.run(), name="archiver"):
        await world.until(lambda: seen(fake, 8))
        lag = await Lag(world.log)()
        assert lag == len(await everything(world.log))
        await world.tell(a_row())
        assert await Lag(world.log)() == lag + 1
        fake.failing = 0
        await world.until(lambda: caught_up(world), within_s=20)
    assert await archived(blobs) == await everything(world.log)


async def test_s3_and_a_folder_keep_the_same_promises(bucket: tuple[FakeS3, Blobs], blobs: Blobs) -> None:
    for store in (blobs, bucket[1]):
        assert await store.put("a/b/c", b"one")
        assert not await store.put("a/b/c", b"two")
        assert await store.get("a/b/c") == b"one"
        assert await store.head("a/b/c") == 3
        assert await store.get("a/b/d") is None
        assert await store.head("a/b/d") is None
        assert await store.put("a/bb/c", b"other")
        assert await store.list("a/b") == {"a/b/c": 3}
        assert await store.list("nothing") == {}
    bucket[0].failing = 1_000_000
    with pytest.raises(Unavailable):
        await bucket[1].get("a/b/c")


async def test_the_folder_is_ours_alone_and_its_files_are_read_only(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path / 'a%20b' / 'archive'}")
    await blobs.put("x/y", b"1")
    folder = tmp_path / "a b" / "archive"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "x/y").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("url", ["", "/folder", "file://host/folder", "http://x/y", "s3://", "s4://x"])
async def test_what_is_no_archive_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no archive"):
        open_blobs(url)


async def test_a_full_disk_under_the_archive_is_waited_for(world: World, tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "tiny") as folder:
        blobs = open_blobs(f"file://{folder / 'archive'}")
        (folder / "filler").write_bytes(b"x" * 240_000)
        await some_of_all(world)
        await world.tell(a_row(payload=f'"{os.urandom(20_000).hex()}"'))
        async with archiver(world.db, world.log, blobs) as one:
            with pytest.raises(Unavailable):
                await step(one)
            left = await Lag(world.log)()
            assert left
            (folder / "filler").unlink()
            await step(one)
        assert await archived(blobs) == await everything(world.log)


async def test_a_day_is_dropped_when_it_is_old_and_archived_and_all_have_read_it(world: World, blobs: Blobs) -> None:
    day = await an_old_day(world, days=40)
    await run_once(world, blobs)
    await world.tell(a_row())
    assert await Days(world.db, blobs, KEPT).sweep() == [day]
    assert [entry.offset for entry in await everything(world.log)] == [6]
    assert len(await archived(blobs)) == 6


async def test_a_day_that_is_not_archived_is_never_dropped(world: World, blobs: Blobs) -> None:
    day = await an_old_day(world, days=400)
    retention = Days(world.db, blobs, KEPT)
    assert await retention.sweep() == []
    await run_once(world, blobs)
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.archived SET last = last - 1")
    assert await retention.sweep() == []
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.archived SET last = last + 1, log = 'kafka'")
    assert await retention.sweep() == []
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.archived SET log = 'postgres'")
    assert await retention.sweep() == [day]


async def test_a_day_whose_objects_the_archive_has_lost_is_not_dropped(
    world: World, tmp_path: Path, blobs: Blobs
) -> None:
    await an_old_day(world, days=40)
    await run_once(world, blobs)
    (name,) = await blobs.list("acme")
    (tmp_path / "archive" / name).rename(tmp_path / "aside")
    retention = Days(world.db, blobs, KEPT)
    assert await retention.sweep() == []
    (tmp_path / "archive" / name).write_bytes(b"short")
    assert await retention.sweep() == []
    (tmp_path / "aside").replace(tmp_path / "archive" / name)
    assert len(await retention.sweep()) == 1


async def test_a_day_is_kept_for_as_long_as_its_longest_topic(world: World, blobs: Blobs) -> None:
    await an_old_day(world, 40, a_row(topic="mode.changed"))
    await an_old_day(world, 20, a_row())
    await run_once(world, blobs)
    assert await Days(world.db, blobs, KEPT).sweep() == []
    assert len(await Days(world.db, blobs, KEPT | {"mode.changed": 39}).sweep()) == 1


async def test_a_day_that_some_group_has_yet_to_read_is_not_dropped(world: World, blobs: Blobs) -> None:
    await an_old_day(world, days=40)
    await run_once(world, blobs)
    place = (await everything(world.log))[0].place
    await world.log.stand("sealer", {place: 5})
    retention = Days(world.db, blobs, KEPT)
    assert await retention.sweep() == []
    await world.log.stand("sealer", {place: 6})
    assert len(await retention.sweep()) == 1


async def test_without_an_archive_days_go_by_age(world: World) -> None:
    await an_old_day(world, days=29)
    assert await Days(world.db, None, KEPT).sweep() == []
    day = await an_old_day(world, days=31)
    assert await Days(world.db, None, KEPT).sweep() == [day]


# What the tests stand on.


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FakeS3, Blobs]]:
    async with open_fake_s3() as fake:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        yield fake, open_blobs("s3://bucket/some/prefix")


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """256 KiB in all."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("nobody but root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def noted(world: World) -> dict[str, int]:
    return {row["object"]: row["bytes"] for row in await world.db.look("SELECT object, bytes FROM soma.archived")}


async def sizes(blobs: Blobs) -> dict[str, int]:
    return {**await blobs.list("acme"), **await blobs.list("globex")}


async def put(blobs: Blobs, entries: list[Entry]) -> None:
    await blobs.put(segments.name("postgres", entries), segments.write("postgres", entries))


async def seen(fake: FakeS3, puts: int) -> bool:
    return len([1 for method, _ in fake.requests if method == "PUT"]) >= puts


async def caught_up(world: World) -> bool:
    return await Lag(world.log)() == 0


async def age(world: World, by: timedelta) -> None:
    """Make all that is in the log older."""
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.log SET time = time - $1::interval", by)


async def an_old_day(world: World, days: int, *rows: Row) -> date:
    """A day of the log with a table of its own. Returns the day."""
    today = datetime.now(UTC).date()
    day = today - timedelta(days=days)
    async with schema.administering(world.admin_url) as conn:
        await conn.execute(
            f"CREATE TABLE soma.log_{day:%Y%m%d} PARTITION OF soma.log "
            f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
        )
    await world.tell(*(rows or [a_row() for _ in range(6)]))
    async with schema.administering(world.admin_url) as conn:
        await conn.execute(
            "UPDATE soma.log SET time = $1::date::timestamp AT TIME ZONE 'UTC' + interval '5 hours' WHERE time > $2",
            day, datetime.now(UTC) - timedelta(days=1),
        )  # fmt: skip
    return day


async def until_free(world: World, *, by_force: bool = False) -> None:
    """Until nobody holds a partition for the archiver any more. By force: what is held is taken away, and what was
    being renewed just then too."""
    async with schema.administering(world.admin_url) as conn:

        async def free() -> bool:
            if by_force:
                await conn.execute("UPDATE soma.log_groups SET expire_time = '-infinity', term = term + 1")
                await conn.execute("UPDATE soma.log_members SET expire_time = '-infinity'")
            return not await world.db.look("SELECT FROM soma.log_groups WHERE expire_time > now()")

        await world.until(free)


def seat_of(archiver: Archiver) -> Seat:
    assert isinstance(archiver.reader, Member)
    return archiver.reader.seat


def away_for(lost: Seat) -> Callable[[Transaction, Seat], Awaitable[None]]:
    """Every member takes its seat but this one, which keeps what it believes to hold."""
    sit_down = leases.sit_down

    async def sit_down_unless_lost(tx: Transaction, seat: Seat) -> None:
        if seat.member == lost.member:
            raise Unavailable("STORE_UNAVAILABLE", "The store is away.")
        await sit_down(tx, seat)

    return sit_down_unless_lost
