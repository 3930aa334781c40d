"""The laws of budgets over the real SQL, whatever comes after what: hypothesis chooses."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.common.telemetry import begin_logs
from services.router.budgets.books import Books, Opening
from services.router.budgets.room import Amount, Scopes
from tests.booking import Shop, add_budget, call_of, open_shop, opening_of, settlement_of
from tests.counting import Books as Rows
from tests.counting import Law, read

TABLES = "soma.budgets, soma.ledgers, soma.accounts, soma.budget_spend, soma.holds, soma.ledger, soma.outbox"
TIMES = int(os.environ.get("SOMA_FUZZ_TIMES", "1"))
RUN_OUT = "UPDATE soma.holds SET expire_time = now(); UPDATE soma.ledgers SET sweep_time = now()"
A_DAY_PASSES = (
    "UPDATE soma.ledger SET time = time - interval '1 day'",
    "UPDATE soma.budget_spend SET bucket = bucket - interval '1 day' WHERE bucket > '-infinity'",
    "UPDATE soma.holds SET expire_time = expire_time - interval '1 day'",
    "UPDATE soma.ledgers SET sweep_time = sweep_time - interval '1 day'",
)
"""Every bucket is a part of a day, or whole days; by the calendar no month is tried here."""


@dataclass(slots=True)
class Bench:
    """A Postgres, two routers' books on it, and the loop that they run in."""

    shop: Shop
    conn: Any
    books: tuple[Books, Books]
    runner: asyncio.Runner = field(repr=False)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    begin_logs("test")
    doors = AsyncExitStack()
    folder = tmp_path_factory.mktemp("budgets")

    async def open_all() -> tuple[Shop, Any, tuple[Books, Books]]:
        shop = await doors.enter_async_context(open_shop(folder))
        db = await doors.enter_async_context(shop.database())
        other = await doors.enter_async_context(shop.database())
        return shop, await doors.enter_async_context(shop.admin()), (Books(db), Books(other))

    with asyncio.Runner() as runner:
        try:
            yield Bench(*runner.run(open_all()), runner)
        finally:
            runner.run(doors.aclose())


AMOUNTS = st.builds(Amount, st.integers(0, 60), st.integers(0, 60), st.just(1))
USED = st.builds(Amount, st.integers(0, 90), st.integers(0, 90), st.just(1))
PEOPLE = st.sampled_from(["ann", "bob"])
TIERS = st.sampled_from(["premium", "standard"])
SCOPES = st.sampled_from(
    [
        ("tenant", ""), ("user", "*"), ("user", "ann"), ("team", "red"), ("team", "*"), ("conversation", "*"),
        ("task", "t1"), ("key", "*"),
    ]
)  # fmt: skip
WINDOWS = st.sampled_from(
    [("hour", False), ("hour", True), ("day", False), ("day", True), ("month", True), ("total", False)]
)
LIMITS = st.tuples(*(st.none() | st.integers(0, 120),) * 2, st.none() | st.integers(0, 4)).filter(any)


@st.composite
def openings(draw: st.DrawFn) -> Opening:
    person, team = draw(PEOPLE), draw(st.sampled_from(["", "red"]))
    scopes = Scopes(
        person, team, draw(st.sampled_from(["", "c1", "c2"])), draw(st.sampled_from(["", "t1"])),
        draw(st.sampled_from(["", "keys/1"])),
    )  # fmt: skip
    return opening_of(call_of(person, team=team), draw(AMOUNTS), scopes, draw(TIERS))


def machine(bench: Bench) -> type[RuleBasedStateMachine]:
    class Spending(RuleBasedStateMachine):
        running: Bundle[Opening] = Bundle("running")
        over: Bundle[tuple[Opening, Amount]] = Bundle("over")
        budgets: Bundle[uuid.UUID] = Bundle("budgets")

        def __init__(self) -> None:
            super().__init__()
            self.law = Law()
            bench.run(bench.conn.execute(f"TRUNCATE {TABLES} CASCADE"))

        @initialize(target=budgets)
        def begin_bounded(self) -> uuid.UUID:
            """Most of what is tried should meet a cap."""
            bench.run(add_budget(bench.shop, "user", "*", "day", rolling=True, microusd=70, tokens=100))
            id: uuid.UUID = bench.run(add_budget(bench.shop, microusd=100))
            return id

        @rule(target=running, opening=openings(), which=st.integers(0, 1))
        def admit(self, opening: Opening, which: int) -> Opening:
            room = bench.run(bench.books[which].admit(opening))
            if room is not None:
                tiers = ("", opening.decision.tier)
                assert any(left.is_short_of(opening.most) for left in room if left.tier in tiers), (
                    "refused without need"
                )
            return opening

        @rule(many=st.lists(openings(), min_size=2, max_size=6))
        def admit_at_once(self, many: list[Opening]) -> None:
            async def all_of_them() -> None:
                await asyncio.gather(*(bench.books[i % 2].admit(one) for i, one in enumerate(many)))

            bench.run(all_of_them())

        @rule(opening=running, most=AMOUNTS, tier=TIERS)
        def move(self, opening: Opening, most: Amount, tier: str) -> None:
            bench.run(bench.books[0].move(opening_of(opening.call, most, opening.scopes, tier, opening.decision.id)))

        @rule(target=over, opening=consumes(running), used=USED, which=st.integers(0, 1))
        def settle(self, opening: Opening, used: Amount, which: int) -> tuple[Opening, Amount]:
            settle(bench, which, opening, used)
            return opening, used

        @rule(one=over, used=USED)
        def settle_again(self, one: tuple[Opening, Amount], used: Amount) -> None:
            before = bench.run(read(bench.conn))
            settle(bench, 1, one[0], used)
            after = bench.run(read(bench.conn))
            assert (ended(after), after.spend) == (ended(before), before.spend)

        @rule(opening=consumes(running))
        def cancel(self, opening: Opening) -> None:
            before = bench.run(read(bench.conn))
            settle(bench, 0, opening, Amount(0, 0), "cancelled")
            assert bench.run(read(bench.conn)).spend == before.spend

        @rule()
        def leases_run_out(self) -> None:
            bench.run(bench.conn.execute(RUN_OUT))

        @rule()
        def a_day_passes(self) -> None:
            for statement in A_DAY_PASSES:
                bench.run(bench.conn.execute(statement))

        @rule()
        def tidy(self) -> None:
            bench.run(bench.books[0]._ledger.tidy("acme"))

        @rule(target=budgets, scope=SCOPES, window=WINDOWS, tier=st.sampled_from(["", "premium"]), limit=LIMITS)
        def add(self, scope: tuple[str, str], window: tuple[str, bool], tier: str, limit: Any) -> uuid.UUID:
            same = "DELETE FROM soma.budgets WHERE scope = $1 AND whose = $2 AND period = $3 AND tier = $4"
            bench.run(bench.conn.execute(same, *scope, window[0], tier))
            figures = dict(zip(("microusd", "tokens", "requests"), limit, strict=True))
            id: uuid.UUID = bench.run(add_budget(bench.shop, *scope, window[0], tier, rolling=window[1], **figures))
            self.changed()
            return id

        @rule(id=budgets, limit=LIMITS, seconds=st.sampled_from([0, 3600]))
        def override(self, id: uuid.UUID, limit: Any, seconds: int) -> None:
            statement = """
                UPDATE soma.budgets SET override_microusd = $2, override_tokens = $3, override_requests = $4,
                    override_end_time = now() + $5 * interval '1 second' WHERE id = $1"""
            bench.run(bench.conn.execute(statement, id, *limit, seconds))
            self.changed()

        @rule(id=consumes(budgets))
        def drop(self, id: uuid.UUID) -> None:
            bench.run(bench.conn.execute("DELETE FROM soma.budgets WHERE id = $1", id))
            self.changed()

        def changed(self) -> None:
            self.law.changed(bench.run(read(bench.conn)))

        @invariant()
        def nothing_is_above_its_cap_and_all_counts_agree(self) -> None:
            books = bench.run(read(bench.conn))
            self.law.check(books)
            books.check_counters()

        def teardown(self) -> None:
            bench.run(bench.conn.execute(RUN_OUT))
            bench.run(bench.books[0].admit(opening_of(call_of("zoe"), Amount(0, 0, 0))))
            still = "SELECT * FROM soma.accounts WHERE held_microusd + held_tokens + held_requests > 0"
            held = bench.run(bench.conn.fetch(still))
            assert not held, "held does not return to zero"

    return Spending


def ended(books: Rows) -> list[Any]:
    return [row for row in books.ledger if row["kind"] in ("settle", "release")]


def settle(bench: Bench, which: int, opening: Opening, used: Amount, finish_reason: str = "stop") -> None:
    async def done() -> None:
        await bench.books[which].settle(opening.call, settlement_of(opening, used, finish_reason))

    bench.run(done())


def test_no_budget_is_exceeded_and_nothing_is_lost_or_counted_twice_whatever_happens(bench: Bench) -> None:
    """Not made smaller when it fails: that would take minutes."""
    run_state_machine_as_test(
        machine(bench),
        settings=settings(
            max_examples=12 * TIMES,
            stateful_step_count=30,
            phases=(Phase.generate,),
        ),
    )
