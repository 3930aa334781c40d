"""The laws of the event log, the same for each engine. A module of an engine imports all of them and gives the fixture
`engine`; what an engine promises beyond them is in its own module."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from uuid import UUID

from prometheus_client import CollectorRegistry

from services.common import outbox, schema
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.db import Database, Transaction, open_database
from services.common.log.log import Entry, LeaseLost, Log, Place, Reader, Shard
from services.common.log.topics import TOPICS, part
from services.common.outbox import LONGEST_EVENT, Row
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.relay import Relay
from tests.stores import running_postgres

TOPIC, PARTS = "agent.tool", TOPICS["agent.tool"].parts
ROOM = Caller.system("workers", "")
DEADLINE_S = 30.0
NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Engine:
    """A log under test, over a real Postgres with an outbox of its own and no relay but those that a test runs."""

    db: Database
    log: Log
    admin_url: str
    mortal: Callable[[str, Sequence[str]], AbstractAsyncContextManager[Reader]]
    """A reader that is not heard of again: it holds what it has until others may take it."""
    lease_s: float
    """How long they must wait for that."""

    def relay(self, **settings: float) -> Relay:
        return Relay(self.db, self.log, Sight(Tracer(0.0), CollectorRegistry()), **settings)  # type: ignore[arg-type]

    async def publish(self) -> None:
        """Empty the outbox."""
        relay = self.relay()
        async with asyncio.timeout(DEADLINE_S):
            while await relay.step(Shard(0, 1), 500):
                pass


@asynccontextmanager
async def outbox_database(folder: Path) -> AsyncIterator[tuple[Database, str]]:
    """A Postgres with the house's tables, as the workers see it, and the administrator's URL."""
    async with running_postgres(folder / "postgres") as admin_url:
        await schema.migrate(admin_url, ("workers",))
        await schema.set_room_password(admin_url, "workers", "test")
        url = f"postgresql://soma_workers:test@{admin_url.rpartition('@')[2]}"
        async with open_database(url, f"file://{folder / 'keys'}", SystemClock()) as db:
            yield db, admin_url


@dataclass(slots=True)
class Books:
    """What was read, by key, and what was committed. A repeat of what is known already counts once."""

    entries: list[Entry] = field(default_factory=list)
    known: set[UUID] = field(default_factory=set)

    def enter(self, run: Iterable[Entry]) -> None:
        for entry in run:
            if entry.id not in self.known:
                self.known.add(entry.id)
                self.entries.append(entry)

    def by_key(self) -> Mapping[str, list[UUID]]:
        found: dict[str, list[UUID]] = defaultdict(list)
        for entry in self.entries:
            found[entry.key].append(entry.id)
        return found


def a_key() -> str:
    return f"acme/k{next(NUMBERS)}"


def a_group() -> str:
    return f"group{next(NUMBERS)}"


def a_row(key: str, payload: str = "", topic: str = TOPIC) -> Row:
    payload = payload or json.dumps({"n": next(NUMBERS)})
    return Row(str(new_id()), "acme", topic, key, "tool.called", payload, "00-trace-01")


async def write(tx: Transaction, *rows: Row) -> list[UUID]:
    await tx.execute(*outbox.insert(rows))
    return [UUID(row.id) for row in rows]


async def tell(engine: Engine, *rows: Row) -> list[UUID]:
    """A room's transaction that tells this."""
    async with engine.db.own(ROOM) as tx:
        return await write(tx, *rows)


async def ends(engine: Engine, topic: str = TOPIC) -> dict[Place, int]:
    return {place: end for place, (_, end) in (await engine.log.ends(topic)).items()}


@asynccontextmanager
async def reading(engine: Engine, group: str = "", gather_s: float = 0.0) -> AsyncIterator[Reader]:
    """A reader of a group that stands at the end, unless it is known already."""
    if not group:
        group = a_group()
        await engine.log.stand(group, await ends(engine))
    async with engine.log.reader(group, [TOPIC], gather_s=gather_s) as reader:
        yield reader


async def handle(engine: Engine, reader: Reader, run: Sequence[Entry]) -> None:
    """What a consumer does with a run, without a deed of its own."""
    async with engine.db.own(ROOM) as tx:
        await reader.hold(tx, run)
    await reader.commit(run)


async def read(
    engine: Engine, reader: Reader, until: Callable[[Books], bool], most: int = 500, books: Books | None = None
) -> Books:
    """Read and commit until it is enough."""
    books = books or Books()
    async with asyncio.timeout(DEADLINE_S):
        while not until(books):
            await take_in(engine, reader, books, await reader.fetch(most, 0.2))
    return books


async def take_in(engine: Engine, reader: Reader, books: Books, runs: Iterable[Sequence[Entry]]) -> None:
    """Handle what was read. What another took over meanwhile is left to them."""
    for run in runs:
        try:
            await handle(engine, reader, run)
        except LeaseLost:
            await reader.rewind(run[0].place)
        else:
            books.enter(run)


def has(ids: Iterable[UUID]) -> Callable[[Books], bool]:
    wanted = set(ids)
    return lambda books: wanted <= books.known


async def test_what_was_told_comes_out_as_it_was_in_order_of_its_key(engine: Engine) -> None:
    key, payload = a_key(), '{"text":"Zoë\\u0000 \U0001f980","zero":0,"a":[1,2]}'
    rows = [a_row(key, payload), *(a_row(key) for _ in range(5))]
    async with reading(engine) as reader:
        ids = await tell(engine, *rows)
        await engine.publish()
        books = await read(engine, reader, has(ids))

    assert books.by_key()[key] == ids
    first = books.entries[0]
    assert (first.topic, first.part, first.tenant, first.key) == (TOPIC, part(TOPIC, key), "acme", key)
    assert (first.type, first.payload, first.traceparent) == ("tool.called", payload.encode(), "00-trace-01")


async def test_a_row_that_is_longer_than_any_event_goes_aside_and_the_next_goes_on(engine: Engine) -> None:
    key = a_key()
    longest = a_row(key, f'"{"ä" * ((LONGEST_EVENT - 2) // 2)}"')
    longer = a_row(key, f'"{"ä" * ((LONGEST_EVENT - 2) // 2)}x"')
    async with reading(engine) as reader:
        first, aside, last = await tell(engine, longest, longer, a_row(key))
        await engine.publish()
        assert (await read(engine, reader, has([first, last]))).by_key() == {key: [first, last]}
    [row] = await engine.db.look("SELECT reason FROM soma.outbox_aside WHERE id = $1", aside)
    assert row["reason"] == f"It takes more than {LONGEST_EVENT} bytes."


async def test_what_was_rolled_back_never_comes(engine: Engine) -> None:
    key = a_key()
    async with reading(engine) as reader:
        async with engine.db.own(ROOM) as tx:
            await tx.execute("SAVEPOINT before")
            await write(tx, a_row(key))
            await tx.execute("ROLLBACK TO before")
            kept = await write(tx, a_row(key))
        await engine.publish()
        assert (await read(engine, reader, has(kept))).by_key() == {key: kept}


class ReaderByInsertId:
    """What must not be built: it goes on behind the highest insert id that it has seen."""

    SEEN = "SELECT seq, id FROM soma.outbox WHERE seq > $1 ORDER BY seq"

    def __init__(self) -> None:
        self.last = 0

    async def read(self, db: Database) -> list[UUID]:
        rows = await db.look(self.SEEN, self.last)
        self.last = max((row["seq"] for row in rows), default=self.last)
        return [row["id"] for row in rows]


async def test_transactions_that_commit_in_reverse_order_lose_nothing_though_a_reader_by_insert_id_would(
    engine: Engine,
) -> None:
    key, broken = a_key(), ReaderByInsertId()
    await broken.read(engine.db)
    async with reading(engine) as reader:
        async with engine.db.own(ROOM) as late:
            first = await write(late, a_row(key))
            second = await tell(engine, a_row(key))
            seen_by_broken = await broken.read(engine.db)
            await engine.publish()
        third = await tell(engine, a_row(key))
        seen_by_broken += await broken.read(engine.db)
        await engine.publish()
        books = await read(engine, reader, has([*first, *second, *third]))

    assert books.by_key()[key] == [*second, *first, *third], "in order of commit"
    assert seen_by_broken == [*second, *third], "the broken reader has missed what committed late"


async def test_offsets_rise_and_times_never_fall(engine: Engine) -> None:
    async with reading(engine) as reader:
        ids = []
        for _ in range(3):
            ids += await tell(engine, *(a_row(a_key()) for _ in range(10)))
            await engine.publish()
        books = await read(engine, reader, has(ids), most=3)

    for place in {entry.place for entry in books.entries}:
        there = [entry for entry in books.entries if entry.place == place]
        assert all(a.offset < b.offset and a.time <= b.time for a, b in pairwise(there))


async def test_readers_of_a_group_share_the_partitions_and_miss_nothing(engine: Engine) -> None:
    group, books, ids = a_group(), [Books(), Books()], []
    await engine.log.stand(group, await ends(engine))
    async with AsyncExitStack() as doors, asyncio.timeout(DEADLINE_S):
        readers = [await doors.enter_async_context(engine.log.reader(group, [TOPIC])) for _ in books]
        while not all(len({e.part for e in mine.entries[-8:]}) == PARTS / 2 for mine in books):
            ids += await tell(engine, *(a_row(a_key()) for _ in range(16)))
            await engine.publish()
            for reader, mine in zip(readers, books, strict=True):
                await take_in(engine, reader, mine, await reader.fetch(100, 0.1))
        while not set(ids) <= books[0].known | books[1].known:
            for reader, mine in zip(readers, books, strict=True):
                await take_in(engine, reader, mine, await reader.fetch(100, 0.1))


async def test_each_group_gets_everything(engine: Engine) -> None:
    async with reading(engine) as one, reading(engine) as other:
        ids = await tell(engine, *(a_row(a_key()) for _ in range(10)))
        await engine.publish()
        for reader in (one, other):
            assert (await read(engine, reader, has(ids))).known == set(ids)


async def test_a_new_group_begins_at_the_beginning(engine: Engine) -> None:
    ids = await tell(engine, a_row(a_key()), a_row(a_key()))
    await engine.publish()
    async with engine.log.reader(a_group(), [TOPIC]) as reader:
        books = await read(engine, reader, has(ids))

    firsts = {place: first for place, (first, _) in (await engine.log.ends(TOPIC)).items()}
    for place in {entry.place for entry in books.entries}:
        assert next(e.offset for e in books.entries if e.place == place) == firsts[place]


async def test_what_was_not_committed_is_given_out_again_to_the_next(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    ids = await tell(engine, *(a_row(key) for _ in range(6)))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as reader:
        run = await first_run(reader)
        await handle(engine, reader, run[:2])
    async with engine.log.reader(group, [TOPIC]) as reader:
        assert [entry.id for entry in await first_run(reader)] == ids[2:]


async def test_who_has_read_all_lets_what_comes_next_gather_and_who_is_behind_waits_for_nothing(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    ids = await tell(engine, *(a_row(key) for _ in range(9)))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC], gather_s=2 * DEADLINE_S) as reader:
        await read(engine, reader, has(ids), most=3)
        await tell(engine, a_row(key))
        await engine.publish()
        assert not await reader.fetch(10, 0.5)


async def test_a_run_may_be_done_piece_by_piece_before_it_is_committed(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    ids = await tell(engine, *(a_row(key) for _ in range(4)))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as reader:
        run = await first_run(reader)
        for entry in run:
            async with engine.db.own(ROOM) as tx:
                await reader.hold(tx, [entry])
        await reader.commit(run)
        ids += await tell(engine, a_row(key))
        await engine.publish()
        assert [entry.id for entry in await first_run(reader)] == ids[4:]


async def test_after_a_rewind_a_run_comes_again(engine: Engine) -> None:
    key = a_key()
    async with reading(engine) as reader:
        await tell(engine, *(a_row(key) for _ in range(3)))
        await engine.publish()
        run = await first_run(reader)
        assert not await reader.fetch(10, 0), "it is out, so it is not given out twice"
        await reader.rewind(run[0].place)
        assert await first_run(reader) == run


async def test_what_a_dead_reader_held_goes_to_another_and_nothing_is_lost(engine: Engine) -> None:
    group = a_group()
    await engine.log.stand(group, await ends(engine))
    async with engine.mortal(group, [TOPIC]) as dead:
        ids = await tell(engine, *(a_row(a_key()) for _ in range(20)))
        await engine.publish()
        left = await first_run(dead)
        async with engine.log.reader(group, [TOPIC]) as living:
            books = await read(engine, living, has(ids))
        assert {entry.id for entry in left} <= books.known


async def test_a_reader_that_lost_its_partition_moves_nothing(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    async with engine.mortal(group, [TOPIC]) as stale:
        ids = await tell(engine, *(a_row(key) for _ in range(5)))
        await engine.publish()
        run = await first_run(stale)
        async with engine.log.reader(group, [TOPIC]) as living:
            await read(engine, living, has(ids))
            stood = await engine.log.standing(group)
            with suppress(LeaseLost):
                await handle(engine, stale, run[:2])
            assert await engine.log.standing(group) == stood
            ids = await tell(engine, a_row(key))
            await engine.publish()
            assert (await read(engine, living, has(ids))).known == set(ids)


async def test_a_group_may_be_put_elsewhere_by_offset_and_reads_the_same_bytes_again(engine: Engine) -> None:
    group, key, ids = a_group(), a_key(), []
    await engine.log.stand(group, await ends(engine))
    for _ in range(5):
        ids += await tell(engine, a_row(key))
        await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as reader:
        once = await read(engine, reader, has(ids))
    await engine.log.stand(group, {once.entries[0].place: once.entries[2].offset})
    async with engine.log.reader(group, [TOPIC]) as reader:
        again = await read(engine, reader, has(ids[2:]))

    assert again.entries == once.entries[2:]


async def test_a_reader_that_runs_notices_that_its_group_was_put_elsewhere(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    async with engine.log.reader(group, [TOPIC]) as reader:
        ids = await tell(engine, *(a_row(key) for _ in range(3)))
        await engine.publish()
        once = await read(engine, reader, has(ids))
        await engine.log.stand(group, {once.entries[0].place: once.entries[1].offset})
        again = await read(engine, reader, has(ids[1:]))

    assert again.entries == once.entries[1:]


async def test_a_time_is_an_offset_and_one_that_has_not_come_is_the_end(engine: Engine) -> None:
    key, place = a_key(), (TOPIC, 0)
    while part(TOPIC, key):
        key = a_key()
    for _ in range(2):
        await tell(engine, a_row(key))
        await engine.publish()
        await until_later()
    (_, end), first = (await engine.log.ends(TOPIC))[place], (await engine.log.ends(TOPIC))[place][0]
    earlier, later = (await engine.log.read(place, end - 2, 2))[-2:]

    assert (await engine.log.at(TOPIC, later.time))[place] == later.offset
    assert (await engine.log.at(TOPIC, earlier.time + timedelta(milliseconds=1)))[place] == later.offset
    assert (await engine.log.at(TOPIC, earlier.time - timedelta(days=900)))[place] == first
    assert (await engine.log.at(TOPIC, later.time + timedelta(days=1)))[place] == end


async def test_lag_is_the_end_less_where_the_group_stands(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    assert group in await engine.log.groups()
    ids = await tell(engine, *(a_row(key) for _ in range(5)))
    await engine.publish()

    assert await lag(engine, group) == 5
    async with engine.log.reader(group, [TOPIC]) as reader:
        await handle(engine, reader, (await first_run(reader))[:2])
        assert await lag(engine, group) == 3
        await reader.rewind((TOPIC, part(TOPIC, key)))
        await read(engine, reader, has(ids[2:]))
        assert await lag(engine, group) == 0


async def test_a_fetch_gives_no_more_than_was_asked_for_and_nothing_when_nothing_came(engine: Engine) -> None:
    async with reading(engine) as reader:
        assert not await reader.fetch(10, 0.05)
        await tell(engine, *(a_row(a_key()) for _ in range(40)))
        await engine.publish()
        async with asyncio.timeout(DEADLINE_S):
            while not (runs := await reader.fetch(10, 1)):
                pass
        assert 0 < sum(map(len, runs)) <= 10


async def test_an_event_of_a_mebibyte_passes(engine: Engine) -> None:
    payload = json.dumps({"text": random.Random(1).randbytes(512 * 1024).hex()})
    async with reading(engine) as reader:
        ids = await tell(engine, a_row(a_key(), payload), a_row(a_key()))
        await engine.publish()
        books = await read(engine, reader, has(ids))
    assert payload.encode() in [entry.payload for entry in books.entries]


async def test_writers_that_interleave_and_roll_back_leave_exactly_what_they_committed_in_order(engine: Engine) -> None:
    committed: dict[str, list[UUID]] = defaultdict(list)
    keys = [a_key() for _ in range(50)]
    locks = {key: asyncio.Lock() for key in keys}
    async with reading(engine) as reader, asyncio.TaskGroup() as group:
        writers = [group.create_task(interleave(engine, keys, locks, committed, n)) for n in range(8)]
        relay = group.create_task(engine.relay(most=40).run())
        await asyncio.wait(writers)
        books = await read(engine, reader, lambda b: len(b.entries) >= sum(map(len, committed.values())))
        relay.cancel()

    assert books.by_key() == committed


async def test_two_relays_at_once_lose_nothing_and_keep_the_order(engine: Engine) -> None:
    committed: dict[str, list[UUID]] = defaultdict(list)
    keys = [a_key() for _ in range(10)]
    locks = {key: asyncio.Lock() for key in keys}
    async with reading(engine) as reader, asyncio.TaskGroup() as group:
        writers = [group.create_task(interleave(engine, keys, locks, committed, n)) for n in range(4)]
        relays = [group.create_task(engine.relay(most=7, shards=shards).run()) for shards in (2, 2)]
        await asyncio.wait(writers)
        books = await read(engine, reader, lambda b: len(b.entries) >= sum(map(len, committed.values())))
        for relay in relays:
            relay.cancel()

    assert books.by_key() == committed


async def test_a_relay_that_dies_before_it_commits_loses_nothing(engine: Engine) -> None:
    key = a_key()
    async with reading(engine) as reader:
        ids = await tell(engine, *(a_row(key) for _ in range(5)))
        try:
            async with engine.db.own(ROOM) as tx:
                assert (await engine.log.drain(tx, Shard(0, 1), 3)).moved == {TOPIC: 3}
                raise ZeroDivisionError
        except ZeroDivisionError:
            ids += await tell(engine, a_row(key))
        await engine.publish()
        assert (await read(engine, reader, has(ids))).by_key() == {key: ids}


async def test_a_row_of_no_known_topic_goes_aside_and_holds_nobody_up(engine: Engine) -> None:
    key = a_key()
    async with reading(engine) as reader:
        ids = await tell(engine, a_row(key), a_row(key, topic="no.such.topic"), a_row(key))
        await engine.publish()
        assert (await read(engine, reader, has([ids[0], ids[2]]))).by_key() == {key: [ids[0], ids[2]]}

    aside = await engine.db.look("SELECT reason FROM soma.outbox_aside WHERE id = $1", ids[1])
    assert [row["reason"] for row in aside] == ["There is no such topic."]


async def test_topics_are_made_once(engine: Engine) -> None:
    await engine.log.make_topics()
    assert not await engine.log.make_topics()
    assert set(await ends(engine, "agent.audit")) == {("agent.audit", n) for n in range(8)}


async def interleave(
    engine: Engine, keys: list[str], locks: Mapping[str, asyncio.Lock], committed: dict[str, list[UUID]], seed: int
) -> None:
    """125 events; a key's writers wait for each other, as rooms do by the rows that they write. A fifth rolls back."""
    dice = random.Random(seed)
    for _ in range(125):
        key = dice.choice(keys)
        async with locks[key]:
            try:
                async with engine.db.own(ROOM) as tx:
                    ids = await write(tx, a_row(key))
                    await asyncio.sleep(0)
                    if dice.random() < 0.2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                continue
            committed[key] += ids


async def first_run(reader: Reader) -> Sequence[Entry]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if runs := await reader.fetch(500, 1):
                return runs[0]


async def lag(engine: Engine, group: str) -> int:
    standing = await engine.log.standing(group)
    return sum(end - standing.get(place, first) for place, (first, end) in (await engine.log.ends(TOPIC)).items())


async def until_later() -> None:
    """Until the clock shows another millisecond, and one more."""
    clock = SystemClock()
    later = clock.now() + timedelta(milliseconds=2)
    while clock.now() < later:
        await asyncio.sleep(0)
