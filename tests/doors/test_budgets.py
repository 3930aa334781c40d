"""Books and budgets over a real Postgres: what is refused and why, what is booked, who sees what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from services.common.call import Call, current
from services.common.db import Database
from services.common.errors import Conflict, Denied, Exhausted, Invalid, NotFound, Refusal, Unavailable
from services.router.budgets.books import Books, Opening
from services.router.budgets.deeds import Budgets
from services.router.budgets.entries import Admit, Entry, Move, Renew, Settle
from services.router.budgets.ledger import Booked, Ledger
from services.router.budgets.queue import MOST_WAITING
from services.router.budgets.room import Amount, Scopes
from soma.router.v1 import budget_service_pb2 as wire
from soma.router.v1.budget_pb2 import Budget, Limit, LimitOverride
from tests.booking import Shop, add_budget, call_of, open_shop, opening_of, settlement_of
from tests.counting import Law, read

pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLES = "soma.budgets, soma.ledgers, soma.accounts, soma.budget_spend, soma.holds, soma.ledger, soma.outbox"
ANN = call_of("ann", team="red")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Shop, Database]]:
    async with open_shop(tmp_path_factory.mktemp("budgets")) as shop, shop.database() as db:
        yield shop, db


@pytest_asyncio.fixture(loop_scope="module")
async def shop(opened: tuple[Shop, Database]) -> Shop:
    """Nothing was spent, nothing is bounded."""
    async with opened[0].admin() as conn:
        await conn.execute(f"TRUNCATE {TABLES} CASCADE")
    return opened[0]


@pytest.fixture
def db(opened: tuple[Shop, Database]) -> Database:
    return opened[1]


@pytest.fixture
def books(shop: Shop, db: Database) -> Books:
    return Books(db)


async def spend(books: Books, most: int, used: int, scopes: Scopes | None = None, call: Call = ANN) -> None:
    opening = opening_of(call, Amount(most, most), scopes)
    assert await books.admit(opening) is None
    await books.settle(call, settlement_of(opening, Amount(used, used)))


async def test_a_refusal_says_which_budget_how_much_is_left_and_when_it_renews(shop: Shop, books: Books) -> None:
    await add_budget(shop, "user", "ann", "day", microusd=100)
    await add_budget(shop, "tenant", "", "total", microusd=1000, requests=7)
    await spend(books, 60, 50)
    room = await books.admit(opening_of(ANN, Amount(51, 1)))
    assert room is not None
    first, second = room
    assert (first.title, first.microusd, first.tokens) == ("the budget of user ann for this day", 50, None)
    assert first.renews == (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert (second.title, second.microusd, second.requests) == ("the budget of the tenant in total", 950, 6)
    assert second.renews is None
    assert not await shop.rows("SELECT 1 FROM soma.holds")
    assert await books.room(ANN, Scopes("ann", "red")) == room


async def test_somebodys_own_budget_takes_the_place_of_everybodys(shop: Shop, books: Books) -> None:
    await add_budget(shop, "user", "*", "day", microusd=10)
    await add_budget(shop, "user", "ann", "day", microusd=50)
    bob = call_of("bob")
    assert await books.admit(opening_of(ANN, Amount(40, 1))) is None
    assert await books.admit(opening_of(bob, Amount(11, 1))) is not None
    assert await books.admit(opening_of(bob, Amount(10, 1))) is None


async def test_a_budget_of_a_tier_bounds_that_tier_alone(shop: Shop, books: Books) -> None:
    await add_budget(shop, "tenant", "", "day", "premium", microusd=10)
    room = await books.admit(opening_of(ANN, Amount(20, 1), tier="premium"))
    assert room is not None
    assert [left.tier for left in room] == ["premium"]
    assert await books.admit(opening_of(ANN, Amount(20, 1), tier="standard")) is None


async def test_a_move_holds_what_the_other_model_can_cost_or_leaves_all_as_it_was(shop: Shop, books: Books) -> None:
    await add_budget(shop, "tenant", "", "day", microusd=100)
    opening = opening_of(ANN, Amount(60, 1))
    assert await books.admit(opening) is None
    assert await books.move(opening_of(ANN, Amount(101, 1), id=opening.decision.id)) is not None
    assert await held(shop) == 60
    assert await books.move(opening_of(ANN, Amount(100, 1), id=opening.decision.id)) is None
    assert await held(shop) == 100
    assert await books.admit(opening_of(ANN, Amount(1, 1))) is not None
    await books.settle(ANN, settlement_of(opening, Amount(70, 1)))
    assert await books.admit(opening_of(ANN, Amount(30, 1))) is None


async def test_a_call_is_settled_once_however_often_and_by_whom_it_is_asked_for(shop: Shop, books: Books) -> None:
    await add_budget(shop, "tenant", "", "day", microusd=100)
    opening = opening_of(ANN, Amount(60, 1))
    assert await books.admit(opening) is None
    async with shop.database() as other:
        routers = (books, Books(other), books)
        for _ in range(2):
            await asyncio.gather(*(one.settle(ANN, settlement_of(opening, Amount(30, 1))) for one in routers))
    async with shop.admin() as conn:
        rows = await read(conn)
    rows.check_counters()
    (level,) = rows.levels()
    assert (level.settled["microusd"], level.settled["requests"], level.held["microusd"]) == (30, 1, 0)
    told = await shop.rows("SELECT 1 FROM soma.outbox WHERE type = 'routing.settled'")
    assert len(told) == 1


@pytest.mark.parametrize("scope", ["user", "team", "conversation", "task", "key"])
async def test_a_budget_bounds_those_alone_whom_its_scope_names(shop: Shop, books: Books, scope: str) -> None:
    await add_budget(shop, scope, "x", "day", microusd=10)
    others = replace(Scopes("ann", "red", "c1", "t1", "k1"), **{scope: "y"})
    bounded = replace(others, **{scope: "x"})
    assert await books.admit(opening_of(ANN, Amount(11, 1), bounded)) is not None
    assert await books.admit(opening_of(ANN, Amount(11, 1), others)) is None
    assert await books.admit(opening_of(ANN, Amount(10, 1), bounded)) is None
    async with shop.admin() as conn:
        (await read(conn)).check_counters()


async def test_entries_of_one_transaction_are_counted_one_after_the_other(shop: Shop, db: Database) -> None:
    await add_budget(shop, "tenant", "", "day", microusd=100)
    await add_budget(shop, "user", "*", "total", "premium", microusd=70)
    first, second, third = (opening_of(ANN, Amount(most, 1)) for most in (60, 60, 90))

    def moved(most: int, tier: str) -> Move:
        return Move(opening_of(ANN, Amount(most, 1), tier=tier, id=third.decision.id))

    entries: list[Entry] = [
        Admit(first), Admit(second), Admit(first), Settle(ANN, settlement_of(first, Amount(10, 1))),
        Settle(ANN, settlement_of(first, Amount(20, 1))), Admit(third), moved(91, "standard"), moved(71, "premium"),
        moved(70, "premium"), Renew([third.decision.id]), Admit(opening_of(ANN, Amount(20, 1))),
        Settle(ANN, settlement_of(third, Amount(90, 1))),
    ]  # fmt: skip
    booked = await Ledger(db, timedelta(seconds=30)).write("acme", entries)
    results = [one for one in booked if isinstance(one, Booked)]
    assert [one.outcome for one in results] == [
        "held", "short", "repeated", "settle", "repeated", "held", "short", "short", "held", "renewed", "held",
        "settle",
    ]  # fmt: skip
    rooms = [{left.tier: left.microusd for left in one.room} for one in results if one.outcome == "short"]
    assert rooms == [{"": 40, "premium": 70}, {"": 0, "premium": 70}, {"": 0, "premium": 70}]
    assert results[-1].overrun_microusd == 20
    async with shop.admin() as conn:
        rows = await read(conn)
    rows.check_counters()
    assert await held(shop) == 20


async def held(shop: Shop) -> int:
    (row,) = await shop.rows("SELECT sum(microusd)::int AS held FROM soma.holds")
    return int(row["held"])


async def test_what_goes_beyond_the_hold_is_counted_as_far_as_it_fits_and_the_rest_is_an_overrun(
    shop: Shop, db: Database, books: Books
) -> None:
    await add_budget(shop, "tenant", "", "day", microusd=100)
    await spend(books, 60, 150)
    (row,) = await shop.rows("SELECT microusd, overrun_microusd FROM soma.ledger WHERE kind = 'settle'")
    assert (row["microusd"], row["overrun_microusd"]) == (100, 50)
    spent = await Budgets(db).spend(ANN.caller, wire.ListSpendRequest())
    assert (spent.total.cost_microusd, spent.total.overrun_microusd, spent.total.requests) == (150, 50, 1)


async def test_a_call_that_never_reached_a_provider_costs_nothing(shop: Shop, books: Books) -> None:
    await add_budget(shop, "tenant", "", "day", requests=1)
    opening = opening_of(ANN, Amount(60, 60))
    assert await books.admit(opening) is None
    await books.settle(ANN, settlement_of(opening, Amount(0, 0), "cancelled"))
    assert await books.admit(opening_of(ANN, Amount(60, 60))) is None


async def test_a_cancelled_call_costs_what_was_used(shop: Shop, books: Books) -> None:
    opening = opening_of(ANN, Amount(60, 60))
    assert await books.admit(opening) is None
    await books.settle(ANN, settlement_of(opening, Amount(7, 7), "cancelled"))
    (row,) = await shop.rows("SELECT microusd, requests FROM soma.ledger WHERE kind = 'settle'")
    assert (row["microusd"], row["requests"]) == (7, 1)


async def test_a_hold_that_nobody_renews_ends_by_itself_and_a_late_settlement_is_still_booked(
    shop: Shop, db: Database
) -> None:
    await add_budget(shop, "tenant", "", "day", microusd=100)
    books, opening = Books(db, lease_s=8.0), opening_of(ANN, Amount(100, 1))
    assert await books.admit(opening) is None
    assert await books.admit(opening_of(ANN, Amount(1, 1))) is not None
    other = await admitted_at_last(books, Amount(90, 1))
    assert (await Budgets(db).spend(ANN.caller, wire.ListSpendRequest())).total.lost_microusd == 100
    await books.settle(ANN, settlement_of(opening, Amount(30, 1)))
    (row,) = await shop.rows("SELECT microusd, overrun_microusd FROM soma.ledger WHERE kind = 'settle'")
    assert (row["microusd"], row["overrun_microusd"]) == (10, 20)
    assert (await Budgets(db).spend(ANN.caller, wire.ListSpendRequest())).total.lost_microusd == 0
    await books.settle(ANN, settlement_of(other, Amount(0, 0), "cancelled"))


async def admitted_at_last(books: Books, most: Amount) -> Opening:
    async with asyncio.timeout(30):
        while True:
            opening = opening_of(ANN, most)
            if await books.admit(opening) is None:
                return opening
            await asyncio.sleep(0.02)


async def test_leases_of_running_calls_are_renewed(shop: Shop, db: Database) -> None:
    books, opening = Books(db, lease_s=8.0), opening_of(ANN, Amount(100, 1))
    assert await books.admit(opening) is None
    (before,) = await shop.rows("SELECT expire_time FROM soma.holds")
    keeping = asyncio.create_task(books.keep())
    try:
        async with asyncio.timeout(30):
            while True:
                (now,) = await shop.rows("SELECT expire_time, clock_timestamp() AS at FROM soma.holds")
                if now["at"] > before["expire_time"] and now["expire_time"] > now["at"]:
                    return
                await asyncio.sleep(0.05)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


HOLD = "SELECT expire_time, clock_timestamp() AS at FROM soma.holds WHERE call_id = $1"
LOCK = "SELECT 1 FROM soma.ledgers WHERE tenant = 'acme' FOR UPDATE"


async def test_leases_are_renewed_while_the_books_of_another_tenant_stand_still(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.router.budgets.books.SWEEP_S", 0.0)
    lease, books, gus = timedelta(seconds=8), Books(db, lease_s=8.0), call_of("gus", "globex")
    theirs, ours = opening_of(ANN, Amount(1, 1)), opening_of(gus, Amount(1, 1))
    assert [await books.admit(one) for one in (theirs, ours)] == [None, None]
    keeping, queued = asyncio.create_task(books.keep()), opening_of(ANN, Amount(1, 1))
    try:
        async with shop.admin() as locking, locking.transaction():
            await locking.execute(LOCK)
            admitting = asyncio.create_task(books.admit(queued))
            began = None
            async with asyncio.timeout(30):
                while True:
                    (hold,) = await shop.rows(HOLD, ours.decision.id)
                    began = began or hold["at"]
                    assert hold["expire_time"] > hold["at"]
                    if hold["at"] > began + 1.1 * lease:
                        break
                    await asyncio.sleep(0.05)
        await asyncio.wait([admitting])
        assert await books.admit(opening_of(ANN, Amount(1, 1))) is None
        await books.settle(gus, settlement_of(ours, Amount(1, 1)))
        assert not await shop.rows(HOLD, ours.decision.id)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_256_callers_of_several_routers_at_once_are_held_to_every_cap(shop: Shop, db: Database) -> None:
    await add_budget(shop, "tenant", "", "total", microusd=4000)
    await add_budget(shop, "user", "*", "hour", rolling=True, tokens=400)
    admitted = 0
    async with shop.database() as other, shop.admin() as conn:
        routers = (Books(db), Books(other), Books(db))

        async def caller(i: int) -> None:
            nonlocal admitted
            call = call_of(f"p{i % 16}")
            for n in range(3):
                opening = opening_of(call, Amount(20 + i % 7, 10))
                if await routers[(i + n) % 3].admit(opening) is None:
                    admitted += 1
                    used = Amount(15 + (i + n) % 20, 5 + n * 4)
                    await routers[i % 3].settle(call, settlement_of(opening, used))

        callers = asyncio.gather(*(caller(i) for i in range(256)))
        law, looks = Law(), 0
        async with asyncio.timeout(30):
            while not callers.done():
                law.check(await read(conn))
                looks += 1
        await callers
        last = await read(conn)
    last.check_counters()
    law.check(last)
    assert not last.holds
    assert sum(row["kind"] in ("settle", "release") for row in last.ledger) == admitted
    assert looks > 3
    (level,) = [level for level in last.levels() if level.whose == ""]
    assert level.settled["microusd"] > 3950, "there was room for more"


async def test_who_comes_when_too_many_wait_is_refused_at_once(shop: Shop, books: Books) -> None:
    many = [asyncio.create_task(books.admit(opening_of(ANN, Amount(1, 1)))) for _ in range(MOST_WAITING + 100)]
    results = await asyncio.gather(*many, return_exceptions=True)
    refused = [one for one in results if isinstance(one, Exhausted)]
    assert {one.reason for one in refused} == {"ROOM_BUSY"}
    assert results.count(None) == MOST_WAITING


async def test_an_entry_whose_event_breaks_its_schema_fails_alone(shop: Shop, books: Books) -> None:
    broken = opening_of(ANN, Amount(1, 1), model="")
    results = await asyncio.gather(
        *(books.admit(one) for one in (opening_of(ANN, Amount(1, 1)), broken, opening_of(ANN, Amount(1, 1)))),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [type(None), ValueError, type(None)]
    assert len(await shop.rows("SELECT 1 FROM soma.holds")) == 2


async def test_an_entry_that_postgres_cannot_hold_fails_alone_and_in_words(shop: Shop, books: Books) -> None:
    broken = opening_of(ANN, Amount(1, 1), Scopes("ann", task="a\0b"))
    results = await asyncio.gather(
        *(books.admit(one) for one in (opening_of(ANN, Amount(1, 1)), broken, opening_of(ANN, Amount(1, 1)))),
        return_exceptions=True,
    )
    assert [getattr(one, "reason", one) for one in results] == [None, "REQUEST_INVALID", None]
    assert len(await shop.rows("SELECT 1 FROM soma.holds")) == 2


async def test_each_call_is_told_in_its_own_callers_name(shop: Shop, books: Books) -> None:
    people = ("ann", "bob", "eve")
    await asyncio.gather(*(books.admit(opening_of(call_of(person), Amount(1, 1))) for person in people))
    rows = await shop.rows("SELECT type, aggregateid, payload::jsonb->>'subject' AS who FROM soma.outbox")
    assert len({row["who"] for row in rows}) == 3
    assert sorted(row["type"] for row in rows) == ["routing.decided"] * 6
    assert all(row["aggregateid"] == f"acme/{row['who']}" for row in rows)


async def test_a_tenant_that_is_not_served_has_no_books(books: Books) -> None:
    with pytest.raises(Denied) as refused:
        await books.admit(opening_of(call_of("ann", "nobody"), Amount(1, 1)))
    assert refused.value.reason == "TENANT_UNKNOWN"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE soma.ledger SET microusd = 0", "DELETE FROM soma.ledger", "DELETE FROM soma.holds",
        "INSERT INTO soma.ledgers (tenant) VALUES ('acme')", "UPDATE soma.budget_spend SET microusd = 0",
        "SELECT soma.lock_ledger('globex')", "SELECT soma.expire_holds('globex', now())",
    ],
)  # fmt: skip
async def test_the_ledger_is_written_by_its_function_alone(shop: Shop, db: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.upkeep(ANN.caller) as tx:
            await tx.execute(statement)


# The service


def acting(action: str) -> None:
    current.set(Call("/x", action, "", "", ANN.person, None))


def budget(**fields: object) -> Budget:
    return Budget(**{"scope": "user", "of": "ann", "window": "day", "limit": Limit(cost_microusd=100)} | fields)  # type: ignore[arg-type]


async def created(db: Database, wanted: Budget, request_id: str = "") -> Budget:
    acting("budget.created")
    request = wire.CreateBudgetRequest(budget=wanted, request_id=request_id or None)
    return await Budgets(db).create(ANN.caller, request)


async def test_a_new_budget_counts_what_was_spent_and_is_held_already(shop: Shop, db: Database, books: Books) -> None:
    await spend(books, 60, 30)
    assert await books.admit(opening_of(ANN, Amount(25, 1))) is None
    made = await created(db, budget())
    assert (made.state.settled_microusd, made.state.held_microusd) == (30, 25)
    room = await books.admit(opening_of(ANN, Amount(46, 1)))
    assert room is not None
    assert room[0].microusd == 45


async def test_a_budget_is_changed_as_the_mask_says_and_an_override_takes_the_limits_place_until_it_ends(
    shop: Shop, db: Database, books: Books
) -> None:
    made = await created(db, budget())
    acting("budget.updated")
    override = LimitOverride(limit=Limit(cost_microusd=500), reason="a demonstration")
    override.end_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    wanted = Budget(name=made.name, limit=Limit(cost_microusd=1), override=override, etag=made.etag)
    request = wire.UpdateBudgetRequest(budget=wanted, update_mask=FieldMask(paths=["override"]))
    changed = await Budgets(db).update(ANN.caller, request)
    assert (changed.limit.cost_microusd, changed.override.limit.cost_microusd) == (100, 500)
    assert await books.admit(opening_of(ANN, Amount(400, 1))) is None
    async with shop.admin() as conn:
        await conn.execute("UPDATE soma.budgets SET override_end_time = now()")
    assert await books.admit(opening_of(ANN, Amount(1, 1))) is not None
    with pytest.raises(Conflict):
        await Budgets(db).update(ANN.caller, request)


async def test_a_deleted_budget_bounds_nothing_any_more(shop: Shop, db: Database, books: Books) -> None:
    made = await created(db, budget(limit=Limit(requests=0)))
    assert await books.admit(opening_of(ANN, Amount(1, 1))) is not None
    acting("budget.deleted")
    await Budgets(db).delete(ANN.caller, wire.DeleteBudgetRequest(name=made.name))
    assert await books.admit(opening_of(ANN, Amount(1, 1))) is None
    with pytest.raises(NotFound):
        await Budgets(db).get(ANN.caller, made.name)


async def test_a_second_budget_of_the_same_is_refused_and_a_repeated_request_is_not(shop: Shop, db: Database) -> None:
    once = "3b241101-e2bb-4255-8caf-4136c566a962"
    first = await created(db, budget(), once)
    assert (await created(db, budget(), once)).name == first.name
    with pytest.raises(Refusal) as refused:
        await created(db, budget(rolling=True))
    assert (refused.value.reason, refused.value.metadata["name"]) == ("BUDGET_EXISTS", first.name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "tenant"}, {"of": ""}, {"limit": Limit()}, {"window": "total", "rolling": True},
        {"override": LimitOverride(limit=Limit(tokens=1), reason="past")},
    ],
)  # fmt: skip
async def test_a_budget_that_makes_no_sense_is_refused(shop: Shop, db: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid) as refused:
        await created(db, budget(**wrong))
    assert refused.value.reason == "REQUEST_INVALID"


async def test_budgets_come_in_pages_newest_first(shop: Shop, db: Database) -> None:
    names = [(await created(db, budget(of=f"p{i}"))).name for i in range(5)]
    acting("")
    first = await Budgets(db).page(ANN.caller, wire.ListBudgetsRequest(page_size=3))
    token = first.next_page_token
    second = await Budgets(db).page(ANN.caller, wire.ListBudgetsRequest(page_size=3, page_token=token))
    assert [b.name for b in (*first.budgets, *second.budgets)] == names[::-1]
    assert not second.next_page_token
    other = await Budgets(db).page(call_of("gus", "globex").caller, wire.ListBudgetsRequest())
    assert not other.budgets


@pytest.mark.parametrize(
    ("by", "of"),
    [("model", "acme-ai/gpt-x"), ("provider", "acme-ai"), ("tier", "standard"), ("user", "ann"), ("team", "red"),
     ("conversation", "conversations/1"), ("task", "t"), ("key", "keys/1")],
)  # fmt: skip
async def test_spend_is_summed_by_each_dimension(shop: Shop, db: Database, books: Books, by: str, of: str) -> None:
    await spend(books, 60, 30, Scopes("ann", "red", "conversations/1", "t", "keys/1"))
    await spend(books, 60, 12, Scopes("ann", "red", "conversations/1", "t", "keys/1"))
    spent = await Budgets(db).spend(ANN.caller, wire.ListSpendRequest(by=by))
    (row,) = spent.spend
    assert (row.of, row.cost_microusd, row.input_tokens + row.output_tokens, row.requests) == (of, 42, 42, 2)
    assert spent.total.cost_microusd == 42


async def test_postgres_away_is_said_and_nothing_is_admitted(db: Database, shop: Shop) -> None:
    async with shop.database() as closing:
        books = Books(closing)
    with pytest.raises(Unavailable) as refused:
        await books.admit(opening_of(ANN, Amount(1, 1)))
    assert refused.value.reason == "STORE_UNAVAILABLE"
    assert refused.value.status().code == grpc.StatusCode.UNAVAILABLE.value[0]
