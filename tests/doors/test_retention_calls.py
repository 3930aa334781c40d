"""Decisions and the ledger over a real Postgres: kept for their days, then gone, and nothing else with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common import schema
from services.common.background import alongside
from services.common.call import Call, current
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.config import Misconfigured
from services.common.db import Database, open_database
from services.common.log.engine import open_log
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.router.budgets.books import Books
from services.router.budgets.deeds import Budgets
from services.router.budgets.room import Amount
from services.workers.__main__ import WorkersConfig
from services.workers.bench import Bench
from services.workers.retention import retention
from services.workers.retention.calls import Calls, Gone
from soma.router.v1 import budget_service_pb2 as wire
from tests.booking import TENANTS, Shop, add_budget, call_of, open_shop, opening_of, settlement_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLES = "soma.budgets, soma.ledgers, soma.accounts, soma.budget_spend, soma.holds, soma.ledger, soma.outbox"
NAMED = "soma.id_at(now() - make_interval(days => $1))::text"
ID = f"overlay(gen_random_uuid()::text PLACING left({NAMED}, 13) FROM 1)::uuid"
DECIDE = f"""
WITH made AS (
    INSERT INTO t_acme.decisions (id, subject, turn, requested_tier, provider, model, tier, decision, create_time)
    SELECT {ID}, 'ann', '', 'standard', 'p', 'm', 'standard', '', now() - make_interval(days => $2) RETURNING id)
INSERT INTO t_acme.feedback (decision, source, subject, score, create_time, update_time)
SELECT id, source, 'ann', 1, now(), now() FROM made, unnest(ARRAY['person', 'judge']) AS source
"""
SPEND = f"""
INSERT INTO soma.ledger (tenant, call_id, kind, time, subject, team, conversation, task, key, provider, model, tier,
                         microusd, tokens, requests)
SELECT $3, id, kind, now() - make_interval(days => $2), 'ann', '', '', '', '', 'p', 'm', 'standard', 5, 5, 1
FROM (SELECT {ID} AS id) AS call, unnest(ARRAY['hold', 'settle']) AS kind
"""
AGE = f"""
UPDATE soma.ledger SET time = time - make_interval(days => $1), call_id = {ID}
"""
YOUNG, OLD = 399, 401


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Shop, Database]]:
    async with open_shop(tmp_path_factory.mktemp("retention")) as shop:
        await schema.set_room_password(shop.admin_url, "workers", "test")
        async with as_room(shop, "workers") as db:
            yield shop, db


@asynccontextmanager
async def as_room(shop: Shop, room: str) -> AsyncIterator[Database]:
    url = shop.url.replace("soma_router", f"soma_{room}")
    async with open_database(url, shop.keys, SystemClock(), connections=4) as db:
        yield db


@pytest_asyncio.fixture(loop_scope="module")
async def shop(opened: tuple[Shop, Database]) -> Shop:
    """Nothing was decided or spent."""
    async with opened[0].admin() as conn:
        await conn.execute(f"TRUNCATE {TABLES}, t_acme.decisions CASCADE")
    return opened[0]


@pytest.fixture
def calls(opened: tuple[Shop, Database]) -> Calls:
    return Calls(opened[1])


async def decide(shop: Shop, *ages: int, made: int | None = None) -> None:
    """Decisions of these ages in days by their ids; by Postgres' clock made as many days ago, or `made`."""
    async with shop.admin() as conn:
        await conn.executemany(DECIDE, [(age, age if made is None else made) for age in ages])


async def spend(shop: Shop, *ages: int, booked: int | None = None, tenant: str = "acme") -> None:
    async with shop.admin() as conn:
        await conn.executemany(SPEND, [(age, age if booked is None else booked, tenant) for age in ages])


async def count(shop: Shop, table: str) -> int:
    (row,) = await shop.rows(f"SELECT count(*) AS n FROM {table}")
    return int(row["n"])


async def listed(shop: Shop, since: datetime) -> int:
    """Calls, as /v1/spend has them."""
    caller = Caller("acme", "ops", frozenset({"operator"}), frozenset())
    request = wire.ListSpendRequest(by="day")
    request.since.FromDatetime(since)
    async with shop.database() as db:
        return int((await Budgets(db).spend(caller, request)).total.requests)


async def test_a_decision_is_kept_for_ninety_days_and_then_goes_with_what_was_said_of_it(
    shop: Shop, calls: Calls
) -> None:
    await decide(shop, 0, 30, 89, 91, 1000)
    assert await calls.sweep() == {"acme": Gone(decisions=2)}
    assert await count(shop, "t_acme.decisions") == 3
    assert await count(shop, "t_acme.feedback") == 6
    assert await calls.sweep() == {}


async def test_a_year_of_spend_can_be_listed_and_what_is_older_than_the_ledger_goes(shop: Shop, calls: Calls) -> None:
    await spend(shop, 0, 62, 366, YOUNG, OLD, 2000)
    assert await calls.sweep() == {"acme": Gone(ledger=4)}
    assert await listed(shop, datetime.now(UTC) - timedelta(days=366, hours=1)) == 3
    assert await listed(shop, datetime.now(UTC) - timedelta(days=3000)) == 4
    assert await calls.sweep() == {}


async def test_what_a_total_has_counted_stays_counted_when_the_rows_have_gone(shop: Shop, calls: Calls) -> None:
    await add_budget(shop, "tenant", "", "total", microusd=100)
    await add_budget(shop, "user", "*", "total", microusd=90)
    call = call_of("ann")
    async with shop.database() as db:
        books, opening = Books(db), opening_of(call, Amount(80, 80))
        assert await books.admit(opening) is None
        await books.settle(call, settlement_of(opening, Amount(80, 80)))
        async with shop.admin() as conn:
            await conn.execute(AGE, OLD)
        assert (await calls.sweep())["acme"].ledger == 2
        left = await books.admit(opening_of(call, Amount(11, 11)))
    assert left is not None
    assert sorted(one.microusd or 0 for one in left) == [10, 20]


async def test_a_clock_that_was_wrong_when_a_call_got_its_id_takes_nothing_away(shop: Shop, calls: Calls) -> None:
    await decide(shop, 4000, made=1)
    await spend(shop, 4000, booked=1)
    assert await calls.sweep() == {}


async def test_a_sweep_goes_on_in_small_steps_until_all_tenants_are_swept(
    shop: Shop, opened: tuple[Shop, Database]
) -> None:
    await decide(shop, *[100] * 7)
    for tenant in TENANTS:
        await spend(shop, *[500] * 4, tenant=tenant)
    swept = await Calls(opened[1], at_once=3).sweep()
    assert swept == {"acme": Gone(decisions=7, ledger=8), "globex": Gone(ledger=8)}


async def test_no_worker_takes_from_the_ledger_what_a_window_needs_and_no_other_room_anything(
    shop: Shop, opened: tuple[Shop, Database]
) -> None:
    await spend(shop, 1, 31, 61, 63)
    assert await Calls(opened[1], ledger_days=0).sweep() == {"acme": Gone(ledger=2)}
    call = Call("/x", "", "", "", Caller.system("router", "acme"), wire.ListSpendRequest())
    async with as_room(shop, "router") as db:
        current.set(call)
        for become_tenant in (False, True):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with db.upkeep(call.caller) if become_tenant else db.own(call.caller) as tx:
                    await tx.execute("SELECT soma.forget_ledger('acme', 0, 10)")


async def test_the_worker_sweeps_by_the_days_that_it_was_given(shop: Shop, opened: tuple[Shop, Database]) -> None:
    await decide(shop, 60, 80)
    await spend(shop, 60, 80)
    db, sight = opened[1], Sight(Tracer(0.0), CollectorRegistry())
    async with open_log("", db, None) as log:
        bench = Bench(db, log, sight, shop.keys, decision_days=70, ledger_days=70)
        async with alongside(retention.work(bench), name="retention"), asyncio.timeout(10):
            while (await count(shop, "t_acme.decisions"), await count(shop, "soma.ledger")) != (1, 2):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["SOMA_DECISION_DAYS", "SOMA_LEDGER_DAYS"])
async def test_nobody_sets_fewer_days_than_feedback_and_windows_need(name: str) -> None:
    needed = ("SPIFFE_ENDPOINT_SOCKET", "SOMA_ISSUER", "SOMA_JWKS_URL", "SOMA_DATABASE_URL")
    told = {**dict.fromkeys(needed, ""), "SOMAGENT_MODE": "TEST", "SOMA_KEYS_URL": "file:///keys"}
    with pytest.raises(Misconfigured, match=name):
        WorkersConfig.told({**told, name: "61"})
    assert WorkersConfig.told({**told, name: "62"})
