"""The consumers' loop on a real Postgres: what it promises of order, repetition, failure and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from services.common.caller import Caller
from services.common.consumer import letters, marks
from services.common.consumer.consumer import Away, Hopeless, Patience
from services.common.consumer.replay import Wish, replay
from services.common.db import Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry, LeaseLost
from services.common.testing import lines_said
from tests.consuming import TOPIC, Deed, Seeing, World, open_world, renamed, what_of, with_group
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOM = Caller.system("tests", "acme")
ADA, BEA = "p_ada", "p_bea"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("postgres")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(postgres: World) -> World:
    return await with_group(postgres)


def deeds(who: str, *what: object) -> list[Deed]:
    return [Deed(who, str(name)) for name in what]


def failing_on(*bad: str, times: int = 10**9, fault: Exception | None = None):  # type: ignore[no-untyped-def]
    """Before the state is written, or after it: raises as long as one of these is among the entries."""
    left = dict.fromkeys(bad, times)

    async def fail(_tx: Transaction, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if left.get(what_of(entry), 0) > 0:
                left[what_of(entry)] -= 1
                raise fault or ValueError(f"cannot do {what_of(entry)}")

    return fail


async def test_each_event_is_handled_once_and_in_the_order_of_its_key(world: World) -> None:
    people = [f"p_{n}" for n in range(20)]
    for lot in range(5):
        await world.tell(*(Deed(who, str(n)) for n in range(lot * 10, lot * 10 + 10) for who in people))
    async with world.running(*(world.consumer(Seeing(world.group), batch=7, at_once=4) for _ in range(2))):
        await world.until_through()
    for who in people:
        assert await world.seen(who=who) == [str(n) for n in range(50)]


async def test_an_event_that_is_delivered_twice_is_handled_once(world: World) -> None:
    one, two, three = (deed.event() for deed in deeds(ADA, 1, 2, 3))
    await world.put(one, two, one, three, two)
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
        await world.put(two)
        await world.tell(Deed(ADA, "4"))
        await world.until_seen("4")
    assert await world.seen() == ["1", "2", "3", "4"]


async def test_what_a_handler_wrote_before_it_failed_is_gone(world: World) -> None:
    await world.tell(*deeds(ADA, 1, 2, 3))
    async with world.running(world.consumer(Seeing(world.group, after=failing_on("2", times=3)))):
        await world.until_through()
    assert await world.seen() == ["1", "2", "3"]


async def test_one_event_that_fails_holds_up_its_key_and_nobody_else(world: World) -> None:
    patience = Patience(attempts=10**6, first_s=0.05, longest_s=0.05, look_s=0.05)
    others = [who for who in (f"p_{n}" for n in range(40)) if await same_partition(world, who)][:2]
    await world.tell(*deeds(ADA, "bad", 2, 3), *(Deed(who, str(n)) for n in range(3) for who in others))
    failing = failing_on("bad")
    async with world.running(world.consumer(Seeing(world.group, before=failing), patience=patience)):
        for who in others:
            await world.until_seen("0", "1", "2", who=who)
        await world.tell(*deeds(ADA, 4))
        await world.until(lambda: queued(world, 4))
        assert await world.seen(who=ADA) == [], "what comes later waits"


async def same_partition(world: World, who: str) -> bool:
    from services.common.log.topics import part

    return part(TOPIC, f"acme/{who}") == part(TOPIC, f"acme/{ADA}")


async def queued(world: World, count: int) -> bool:
    return len(await world.letters("waiting")) == count


async def test_what_waited_behind_an_event_that_failed_follows_it_in_order(world: World) -> None:
    await world.tell(*deeds(ADA, "bad", 2, 3))
    patience = Patience(attempts=10, first_s=0.2, longest_s=0.2, look_s=0.05)
    consumer = world.consumer(Seeing(world.group, before=failing_on("bad", times=4)), patience=patience, batch=2)
    async with world.running(consumer):
        await world.until(lambda: queued(world, 3))
        await world.tell(*deeds(ADA, 4, 5))
        await world.until_through()
    assert await world.seen() == ["bad", "2", "3", "4", "5"]
    assert not await world.letters()


async def test_an_event_is_tried_later_and_later_then_dead_with_the_reason_and_its_key_goes_on(world: World) -> None:
    await world.tell(*deeds(ADA, "bad", 2))
    tries: list[float] = []

    async def note(_tx: Transaction, entries: Sequence[Entry]) -> None:
        if what_of(entries[0]) == "bad":
            tries.append(time.monotonic())
            raise ValueError("no way to do \0 this")

    patience = Patience(attempts=4, first_s=0.2, longest_s=10, look_s=0.05)
    async with world.running(world.consumer(Seeing(world.group, before=note), patience=patience)):
        await world.until_seen("2")
    [dead] = await world.letters()
    assert (dead["state"], dead["attempt"]) == ("dead", 4)
    assert dead["reason"] == "ValueError: no way to do  this"
    pauses = [after - before for before, after in zip(tries[-4:], tries[-3:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True))


async def test_what_no_attempt_can_handle_is_dead_after_one_and_its_key_goes_on(world: World) -> None:
    await world.tell(*deeds(ADA, "bad", 2))
    patience = Patience(attempts=4, first_s=60, longest_s=60, look_s=0.05)
    handler = Seeing(world.group, before=failing_on("bad", fault=Hopeless("no trail can hold it")))
    async with world.running(world.consumer(handler, patience=patience)):
        await world.until_seen("2")
    [dead] = await world.letters()
    assert (dead["state"], dead["attempt"]) == ("dead", 1)
    assert dead["reason"] == "Hopeless: no trail can hold it"


async def test_a_handler_that_stands_still_is_cut_off_and_others_go_on(world: World) -> None:
    async def stand_still(_tx: Transaction, entries: Sequence[Entry]) -> None:
        if any(what_of(entry) == "still" for entry in entries):
            await asyncio.Event().wait()

    await world.tell(*deeds(ADA, "still", 2), *deeds(BEA, 1, 2))
    async with world.running(world.consumer(Seeing(world.group, before=stand_still), deadline_s=1.0)):
        await world.until_seen("1", "2", who=BEA)
        await world.until(lambda: dead(world, 1))
        await world.until_seen("2", who=ADA)
    assert "TimeoutError" in (await world.letters())[0]["reason"]


async def dead(world: World, count: int) -> bool:
    return len(await world.letters("dead")) == count


@pytest.mark.parametrize(
    "fault", [OSError("away"), TimeoutError("away"), Unavailable("ROOM_UNAVAILABLE", "A part is away.")]
)
async def test_what_a_handler_cannot_reach_is_its_own_matter_and_stops_nobody(world: World, fault: Exception) -> None:
    await world.tell(*deeds(ADA, "bad"), *deeds(BEA, 1))
    async with world.running(world.consumer(Seeing(world.group, before=failing_on("bad", fault=fault)))):
        await world.until(lambda: dead(world, 1))
        await world.until_seen("1", who=BEA)


async def test_an_event_of_a_later_version_or_another_shape_is_dead_at_once_and_the_rest_goes_on(world: World) -> None:
    await world.tell(*deeds(ADA, 1, 2, 3, 4))
    async with open_admin(world) as conn:
        change = "UPDATE soma.log SET payload = $2::json WHERE payload::text LIKE '%conversations/' || $1 || '\"%'"
        await conn.execute(change, "2", '{"version":2}')
        await conn.execute(change, "3", '{"version":1}')
    calls: list[str] = []

    async def note(_tx: Transaction, entries: Sequence[Entry]) -> None:
        calls.extend(what_of(entry) for entry in entries)

    async with world.running(world.consumer(Seeing(world.group, before=note))):
        await world.until_through()
    assert calls == ["1", "4"]
    later, broken = await world.letters("dead")
    assert "version 2" in later["reason"]
    assert "required" in broken["reason"]
    assert later["attempt"] == broken["attempt"] == 0


async def test_what_nobody_can_read_is_dead_and_its_partition_goes_on(world: World) -> None:
    deep, halved, nul = '{"a":' * 5000 + "1" + "}" * 5000, '{"\\ud800":1}', '{"a\\u0000":1}'
    await world.tell(*deeds(ADA, 1, 2, 3, 4, 5, 6))
    async with open_admin(world) as conn:
        change = "UPDATE soma.log SET payload = $2::json WHERE payload::text LIKE '%conversations/' || $1 || '\"%'"
        for what, payload in (("2", deep), ("3", halved), ("4", nul)):
            await conn.execute(change, what, payload)
        await conn.execute(change.replace("payload = $2::json", "tenant = $2"), "5", "globex")
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    assert await world.seen() == ["1", "6"]
    assert len(await world.letters("dead")) == 4


async def test_two_events_of_one_id_are_told_and_a_repeat_is_not(world: World) -> None:
    one, other = (deed.event() for deed in deeds(ADA, 1, 2))
    await world.put(one, one)
    with lines_said() as lines:
        async with world.running(world.consumer(Seeing(world.group))):
            await world.until_through()
    assert "two events have one id" not in {line["event"] for line in lines}
    fresh = renamed(world)
    await fresh.log.stand(fresh.group, {place: end for place, (_, end) in (await world.log.ends(TOPIC)).items()})
    one.id = other.id
    await fresh.put(one, other)
    with lines_said() as lines:
        async with fresh.running(fresh.consumer(Seeing(fresh.group))):
            await fresh.until_through()
    assert "two events have one id" in {line["event"] for line in lines}
    assert await fresh.seen() == ["1"]


def open_admin(world: World):  # type: ignore[no-untyped-def]
    from services.common.schema import administering

    return administering(world.admin_url)


async def test_the_group_never_stands_behind_work_that_is_not_done(world: World) -> None:
    await world.tell(*deeds(ADA, 1, 2, 3))
    begun = asyncio.Event()

    async def stand_still(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with world.running(world.consumer(Seeing(world.group, after=stand_still), grace_s=0.1)):
        await begun.wait()
        assert await world.log.standing(world.group) == world.start
    assert await world.seen() == []
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    assert await world.seen() == ["1", "2", "3"]


async def test_a_partition_that_is_taken_away_in_mid_batch_is_rolled_back_and_read_again(world: World) -> None:
    await world.tell(*deeds(ADA, 1, 2))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        begun.set()
        await go_on.wait()

    async with world.running(world.consumer(Seeing(world.group, after=wait))):
        await begun.wait()
        await world.log.stand(world.group, world.start)
        go_on.set()
        await world.until_through()
    assert await world.seen() == ["1", "2"]


async def test_what_was_read_before_a_partition_was_lost_is_not_worked_after_the_gap(world: World) -> None:
    """The first batch loses its partition while later ones wait in the lane."""
    await world.tell(*deeds(ADA, *range(6)))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        begun.set()
        await go_on.wait()

    async with world.running(world.consumer(Seeing(world.group, after=wait), batch=2)):
        await begun.wait()
        await world.log.stand(world.group, world.start)
        go_on.set()
        await world.until_through()
    assert await world.seen() == [str(n) for n in range(6)]


async def test_no_more_partitions_than_agreed_are_worked_at_once_and_not_fewer(world: World) -> None:
    await world.tell(*(Deed(f"p_{n}", "1") for n in range(64)))
    now, most, full = 0, 0, asyncio.Event()

    async def count(tx: Transaction, _entries: Sequence[Entry]) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await tx.execute("SELECT pg_sleep(0.2)")  # a fourth would come now
        now -= 1

    async with world.running(world.consumer(Seeing(world.group, before=count), at_once=3)):
        await world.until_through()
    assert most == 3


async def test_a_consumer_that_is_told_to_end_finishes_what_is_under_way(world: World) -> None:
    await world.tell(*deeds(ADA, 1))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        begun.set()
        await go_on.wait()

    consumer = world.consumer(Seeing(world.group, after=wait), batch=1, grace_s=30)
    running = asyncio.create_task(consumer.run())
    await begun.wait()
    await world.tell(*deeds(ADA, 2))
    running.cancel()
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    with suppress(asyncio.CancelledError):
        await running
    assert await world.seen() == ["1"]
    assert (await world.log.standing(world.group))[place(ADA)] == world.start[place(ADA)] + 1


async def test_a_consumer_that_is_told_to_end_does_so_within_its_grace_whatever_its_handler_does(world: World) -> None:
    await world.tell(*deeds(ADA, "bad"), *deeds(BEA, 1))
    begun = asyncio.Event()

    async def stand_still(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with world.running(world.consumer(Seeing(world.group, after=stand_still), grace_s=0.2, deadline_s=60)):
        await begun.wait()
        told = time.monotonic()
    assert time.monotonic() - told < 20


async def test_a_letter_that_somebody_else_claimed_meanwhile_does_not_count(world: World) -> None:
    [event] = await world.tell(*deeds(ADA, 1))
    entry = (await world.log.read(place(ADA), world.start[place(ADA)], 10))[0]
    async with world.db.own(ROOM) as tx:
        await letters.put_off(tx, world.group, entry, 0.0, "once")
    async with world.db.own(ROOM) as tx:
        stale = await letters.claim(tx, world.group, 0.0)
    async with world.db.own(ROOM) as tx:
        fresh = await letters.claim(tx, world.group, 10.0)
    assert stale and fresh and UUID(event.id) == fresh.entry.id
    with pytest.raises(LeaseLost):
        async with world.db.own(ROOM) as tx:
            await letters.done(tx, world.group, stale)
    async with world.db.own(ROOM) as tx:
        assert await letters.claim(tx, world.group, 10.0) is None, "one that is claimed is nobody else's"
        await letters.done(tx, world.group, fresh)
    assert not await world.letters()


def place(who: str) -> tuple[str, int]:
    from services.common.log.topics import part

    return TOPIC, part(TOPIC, f"acme/{who}")


async def test_a_letter_left_waiting_for_nothing_is_found(world: World) -> None:
    await world.tell(*deeds(ADA, 1))
    entry = (await world.log.read(place(ADA), world.start[place(ADA)], 10))[0]
    async with world.db.own(ROOM) as tx:
        await marks.mark(tx, world.group, [entry.id])
        await letters.queue(tx, world.group, [entry])
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_seen("1")


async def test_marks_of_old_days_are_dropped_whole_and_those_of_these_days_hold(world: World) -> None:
    old = UUID(int=(int((datetime.now(UTC) - timedelta(days=40)).timestamp() * 1000) << 80) | 7 << 76)
    await world.tell(*deeds(ADA, 1, 2))
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    async with world.db.own(ROOM) as tx:
        assert await marks.mark(tx, world.group, [old]) == {old}
        assert not await marks.mark(tx, world.group, [old]), "a day without a partition has marks too"
    today = f"handled_{datetime.now(UTC):%Y%m%d}"
    async with open_admin(world) as conn:
        assert await conn.fetchval(f'SELECT count(*) FROM soma.{today} WHERE "group" = $1', world.group) == 2
        await conn.execute("SELECT soma.roll_handled(-3)")
        assert await conn.fetchval("SELECT count(*) FROM soma.handled") == 0


async def test_the_metrics_tell_lag_letters_and_outcomes(world: World) -> None:
    await world.tell(*deeds(ADA, "bad", 2), *deeds(BEA, 1))
    patience = Patience(attempts=2, first_s=0.05, look_s=0.05)

    def value(name: str, **labels: str) -> float | None:
        return world.registry.get_sample_value(name, {"group": world.group} | labels)

    async def measured() -> bool:
        lag, waiting = value("soma_consumer_lag_events", topic=TOPIC), value("soma_consumer_retries")
        return (lag, waiting, value("soma_consumer_dead")) == (0, 0, 1)

    async with world.running(world.consumer(Seeing(world.group, before=failing_on("bad")), patience=patience)):
        await world.until(measured)
        await world.until_through()
    assert value("soma_consumer_events_total", outcome="done") == 2
    assert value("soma_consumer_events_total", outcome="dead") == 1


LEDGER = """
INSERT INTO soma.ledger (key, ids, what) VALUES ($1, ARRAY[$2::uuid], $3) ON CONFLICT (key) DO UPDATE
SET what = soma.ledger.what || ' ' || EXCLUDED.what, ids = soma.ledger.ids || $2 WHERE NOT $2 = ANY (soma.ledger.ids)
"""


async def keep_ledger(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Derived state, idempotent by id: what somebody did, in order."""
    for entry in entries:
        await tx.execute(LEDGER, entry.key, entry.id, what_of(entry))


async def ledger(world: World) -> dict[str, str]:
    return {row["key"]: row["what"] for row in await world.db.look("SELECT key, what FROM soma.ledger")}


async def test_the_state_after_an_outage_and_a_replay_is_that_without_one(world: World) -> None:
    async with open_admin(world) as conn:
        await conn.execute("CREATE TABLE soma.ledger (key text PRIMARY KEY, ids uuid[], what text); "
                           "GRANT ALL ON soma.ledger TO soma_worker")  # fmt: skip
    began, people = await a_moment_later(), [f"p_{n}" for n in range(9)]
    await world.tell(*(Deed(who, f"a{n}") for n in range(4) for who in people))
    consumer = world.consumer(keep_ledger)
    async with world.running(consumer):
        await world.until_through()
    between = datetime.now(UTC)
    await world.tell(*(Deed(who, f"b{n}") for n in range(4) for who in people))
    async with world.running(consumer):
        await world.until_through()
        before = await ledger(world)
        async with open_admin(world) as conn:
            await conn.execute("DELETE FROM soma.ledger")
        wish = Wish(world.group, TOPIC, began, datetime.now(UTC))
        assert await replay(world.db, world.log, wish) == 72
        await world.until(lambda: same(world, before))
        assert await replay(world.db, world.log, Wish(world.group, TOPIC, between, datetime.now(UTC))) == 36
        await world.until_through()
    assert await ledger(world) == before == {f"acme/{who}": "a0 a1 a2 a3 b0 b1 b2 b3" for who in people}


async def same(world: World, state: dict[str, str]) -> bool:
    return await ledger(world) == state


async def test_a_replay_gives_what_is_meant_again_in_order_and_nothing_else(world: World) -> None:
    await world.tell(*deeds(ADA, "early"))
    since = await a_moment_later()
    await world.tell(*deeds(ADA, 1, 2))
    await world.tell(*deeds(ADA, "theirs"), tenant="globex")
    until = await a_moment_later()
    await world.tell(*deeds(ADA, "late"))
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    async with world.db.own(ROOM) as tx:
        await tx.execute('DELETE FROM soma.handled WHERE "group" = $1', world.group)  # as if they were old
    assert await replay(world.db, world.log, Wish(world.group, TOPIC, since, until, "acme")) == 2
    await world.tell(*deeds(ADA, "new"))
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    assert await world.seen(who=ADA) == ["early", "1", "2", "late", "1", "2", "new"]
    assert (await world.seen()).count("theirs") == 1


async def a_moment_later() -> datetime:
    """A time between what is in the log and what comes."""
    moment = datetime.now(UTC)
    while datetime.now(UTC) <= moment:
        await asyncio.sleep(0)
    return moment


async def test_a_replay_into_a_new_group_begins_there(world: World) -> None:
    await world.tell(*deeds(ADA, "early"))
    since = await a_moment_later()
    await world.tell(*deeds(ADA, 1), *deeds(BEA, 2))
    await world.tell(*deeds(ADA, "theirs"), tenant="globex")
    until = await a_moment_later()
    await world.tell(*deeds(BEA, 3))
    world = renamed(world)
    assert await replay(world.db, world.log, Wish(world.group, TOPIC, since, until, "acme")) == 2
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_through()
    assert sorted(await world.seen()) == ["1", "2", "3"]


async def test_a_replay_brings_the_dead_back_too(world: World) -> None:
    since = await a_moment_later()
    await world.tell(*deeds(ADA, "bad", 2))
    async with world.running(world.consumer(Seeing(world.group, before=failing_on("bad")))):
        await world.until_seen("2")
    assert await dead(world, 1)
    await replay(world.db, world.log, Wish(world.group, TOPIC, since, datetime.now(UTC)))
    async with world.running(world.consumer(Seeing(world.group))):
        await world.until_seen("bad")
        await world.until_through()
    assert await world.seen() == ["2", "bad", "2"]
    assert not await world.letters()


async def test_while_what_a_handler_needs_is_away_its_events_wait_and_none_is_put_off(world: World) -> None:
    await world.tell(*deeds(ADA, 1, 2, 3))
    away = failing_on("2", times=3, fault=Away("the archive is away"))
    async with world.running(world.consumer(Seeing(world.group, before=away), batch=1)):
        await world.until_through()
    assert await world.seen() == ["1", "2", "3"]
    assert not await world.letters()


async def test_a_letter_is_not_given_up_for_want_of_what_its_handler_needs(world: World) -> None:
    await world.tell(*deeds(ADA, 1))
    fail, away = failing_on("1", times=2), failing_on("1", times=5, fault=Away("the archive is away"))

    async def first_one_then_the_other(tx: Transaction, entries: Sequence[Entry]) -> None:
        await fail(tx, entries)
        await away(tx, entries)

    patience = Patience(attempts=2, first_s=0.05, look_s=0.05)
    seeing = Seeing(world.group, before=first_one_then_the_other)
    async with world.running(world.consumer(seeing, patience=patience, at_once=4)):
        await world.until_through()
    assert await world.seen() == ["1"]
