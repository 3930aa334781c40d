"""Budgets of the whole router under 256 callers, with kill -9 in the middle of a router, of Valkey and of Postgres: at
each look nothing is above its cap, soon after nothing is held, each call stands in the ledger once, and everybody was
answered, or told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest
import pytest_asyncio

from services.common.background import alongside
from services.common.postgres import store_errors
from tests.chaos.crowd import LEASE_S, Crowd, Stage, open_stage
from tests.chaos.scene import given, until
from tests.counting import Law, read

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
CALLERS, TIMES = 256, 2
SOON_S = 1.0
PATIENCE_S = 10.0
BUDGETS = (
    ("tenant", "", "month", "", 16_000, 400),
    ("tenant", "", "month", "premium", 16_000, None),
    ("user", "*", "month", "", 4_000, None),
    ("user", "p3", "hour", "premium", 500, None),
)
LIVE = "SELECT count(*) AS held FROM soma.holds WHERE tenant = $1 AND expire_time > now()"
LASTING = "SELECT count(*) AS held FROM soma.holds WHERE tenant = $1 AND expire_time > now() + $2::interval"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    """Stores and routers of our own: what dies here is nobody else's."""
    async with open_stage() as stage:
        yield stage


async def look(stage: Stage, tenant: str, looks: list[int]) -> None:
    """At the law, all the time, until cancelled. How many calls were held at each look."""
    law = Law()
    while True:
        with suppress(*store_errors.AWAY):
            conn = await asyncpg.connect(stage.house.admin_url, timeout=5)
            try:
                while True:
                    books = await read(conn, tenant)
                    law.check(books)
                    looks.append(sum(1 for hold in books.holds if hold["expire_time"] > books.now))
                    await asyncio.sleep(0.02)
            finally:
                conn.terminate()
        await asyncio.sleep(0.05)


async def kill_nothing(stage: Stage) -> None:
    pass


async def kill_a_router(stage: Stage) -> None:
    await stage.kill_router("router2")
    await stage.house.start("router2")


KILLS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "nothing": kill_nothing,
    "router": kill_a_router,
    "valkey": Stage.kill_valkey,
    "postgres": Stage.kill_postgres,
}


@pytest.mark.parametrize("killed", KILLS)
async def test_caps_hold_holds_end_and_all_are_answered_in_words_whatever_is_killed(stage: Stage, killed: str) -> None:
    tenant, looks = await stage.tenant(f"of_{killed}", *BUDGETS), list[int]()
    crowd = Crowd(stage, tenant, "script:words=20 script:pace=10")
    async with alongside(look(stage, tenant, looks), name="looks"), asyncio.TaskGroup() as tasks:
        for n in range(CALLERS):
            tasks.create_task(crowd.ask(n, TIMES))
        await until(lambda: given(crowd.done > CALLERS / 2))
        await KILLS[killed](stage)
    assert crowd.done == CALLERS * TIMES
    assert len(crowd.outcomes) > 50 and crowd.refused["BUDGET_SPENT"] > 20, "a part fitted"
    assert max(looks) > 10 and len(looks) > 10
    await check_end(stage, crowd)


async def check_end(stage: Stage, crowd: Crowd) -> None:
    async def nothing_is_held() -> bool:
        return await stage.house.rows(LIVE, crowd.tenant) == [{"held": 0}]

    longest = timedelta(seconds=LEASE_S + SOON_S)
    assert await stage.house.rows(LASTING, crowd.tenant, longest) == [{"held": 0}]
    await until(nothing_is_held, PATIENCE_S)
    await Crowd(stage, crowd.tenant, "").ask(0, 1)  # whoever comes next lets go of what has expired
    await until(all_are_settled_of(stage, crowd))
    books = await stage.books(crowd.tenant)
    books.check_counters()
    Law().check(books)
    settled = {str(row["call_id"]): row for row in books.ledger if row["kind"] == "settle"}
    for decision, outcome in crowd.outcomes.items():
        if decision in settled:
            row = settled[decision]
            assert row["microusd"] + row["overrun_microusd"] == outcome.cost_microusd
        else:
            assert outcome.failure.reason and outcome.cost_microusd == 0


def all_are_settled_of(stage: Stage, crowd: Crowd) -> Callable[[], Awaitable[bool]]:
    """Each call that ended for its caller has ended in the ledger, once, and nothing is held."""

    async def are_settled() -> bool:
        books = await stage.books(crowd.tenant)
        ended = [str(row["call_id"]) for row in books.ledger if row["kind"] in ("settle", "release")]
        assert len(ended) == len(set(ended))
        return not books.holds and set(crowd.outcomes) <= set(ended)

    return are_settled
