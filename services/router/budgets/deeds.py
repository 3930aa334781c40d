"""What people do with budgets. One method a deed, one transaction a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.common import pages
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.db import Database, Transaction
from services.common.errors import Conflict, Exists, Invalid, NotFound
from services.common.once import once
from services.router.budgets import spend, table
from soma.router.v1 import budget_service_pb2 as wire
from soma.router.v1.budget_pb2 import Budget, Limit

LISTING = "budgets"
CHANGES = {"limit", "override"}


@dataclass(frozen=True, slots=True)
class Budgets:
    db: Database

    async def create(self, caller: Caller, request: wire.CreateBudgetRequest) -> Budget:
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Budget) as answer:
            if answer.known is not None:
                return await found(tx, answer.known.name)
            check_budget(request.budget, tx.clock.now())
            id = new_id()
            tx.about(answer.keep(Budget(name=table.name_of(id))).name)
            await table.lock(tx)
            if not await table.add(tx, id, request.budget):
                raise exists(await table.like(tx, request.budget))
            return await found(tx, table.name_of(id))

    async def get(self, caller: Caller, name: str) -> Budget:
        async with self.db.tenant(caller) as tx:
            return await found(tx, name)

    async def page(self, caller: Caller, request: wire.ListBudgetsRequest) -> wire.ListBudgetsResponse:
        before = pages.before(request.page_token, LISTING)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            found = await table.page(tx, before, size + 1)
        budgets, token = pages.cut(found, size, LISTING, lambda budget: id_of(budget.name))
        return wire.ListBudgetsResponse(budgets=budgets, next_page_token=token)

    async def update(self, caller: Caller, request: wire.UpdateBudgetRequest) -> Budget:
        paths = masked(request.update_mask.paths)
        asked = request.budget
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Budget) as answer:
            if answer.known is not None:
                return await found(tx, answer.known.name)
            tx.about(answer.keep(Budget(name=asked.name)).name)
            await table.lock(tx)
            budget = await found(tx, asked.name)
            check_etag(asked.etag, budget.etag)
            merge(budget, asked, paths, tx.clock.now())
            await table.change(tx, id_of(asked.name), budget)
            return await found(tx, asked.name)

    async def delete(self, caller: Caller, request: wire.DeleteBudgetRequest) -> wire.DeleteBudgetResponse:
        async with (
            self.db.tenant(caller) as tx,
            once(tx, request.request_id, request, wire.DeleteBudgetResponse) as answer,
        ):
            if answer.known is not None:
                return answer.known
            tx.about(request.name)
            await table.lock(tx)
            if not await table.drop(tx, id_of(request.name)):
                raise unknown(request.name)
            return answer.keep(wire.DeleteBudgetResponse())

    async def spend(self, caller: Caller, request: wire.ListSpendRequest) -> wire.ListSpendResponse:
        since = moment(request.since, "since") if request.HasField("since") else None
        until = moment(request.until, "until") if request.HasField("until") else None
        async with self.db.tenant(caller) as tx:
            return await spend.summed(tx, request, since, until)


def check_budget(budget: Budget, now: datetime) -> None:
    """What the contract's rules cannot say of a new one. Raises Invalid REQUEST_INVALID."""
    for field in ("scope", "window"):
        if not getattr(budget, field):
            raise wrong(field, "a new budget needs it")
    if (budget.scope == "tenant") != (budget.of == ""):
        raise wrong("of", "a tenant's budget has none, each other names whose it is, or * for each one")
    if budget.rolling and budget.window == "total":
        raise wrong("rolling", "a total has no window that could move")
    check_limit(budget.limit, "limit")
    if budget.HasField("override"):
        check_override(budget, now)


def check_limit(limit: Limit, field: str) -> None:
    if not any(limit.HasField(name) for name in ("cost_microusd", "tokens", "requests")):
        raise wrong(field, "it bounds nothing. Set cost_microusd, tokens or requests")


def check_override(budget: Budget, now: datetime) -> None:
    check_limit(budget.override.limit, "override.limit")
    if moment(budget.override.end_time, "override.end_time") <= now:
        raise wrong("override.end_time", "an override ends in the future")


def masked(paths: Sequence[str]) -> set[str]:
    """Raises Invalid UPDATE_MASK_INVALID."""
    if not paths or not set(paths) <= CHANGES:
        message = "Say what changes with updateMask=limit, updateMask=override or both: nothing else can be changed."
        raise Invalid("UPDATE_MASK_INVALID", message)
    return set(paths)


def merge(budget: Budget, asked: Budget, paths: set[str], now: datetime) -> None:
    """The masked fields as they were asked for."""
    if "limit" in paths:
        check_limit(asked.limit, "limit")
        budget.limit.CopyFrom(asked.limit)
    if "override" in paths:
        budget.ClearField("override")
        if asked.HasField("override"):
            check_override(asked, now)
            budget.override.CopyFrom(asked.override)


def moment(stamp: Timestamp, field: str) -> datetime:
    """Raises Invalid REQUEST_INVALID for what is no time."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as fault:
        raise wrong(field, "it is no time") from fault


def check_etag(sent: str, newest: str) -> None:
    """Raise Conflict ETAG_STALE when an etag was sent that is not the newest."""
    if sent and sent != newest:
        message = "Someone changed this budget meanwhile. Read it again, then change it."
        raise Conflict("ETAG_STALE", message, etag=newest)


async def found(tx: Transaction, name: str) -> Budget:
    """Raises NotFound BUDGET_UNKNOWN."""
    budget = await table.find(tx, id_of(name))
    if budget is None:
        raise unknown(name)
    return budget


def id_of(name: str) -> UUID:
    """Raises NotFound BUDGET_UNKNOWN."""
    id = table.id_of(name)
    if id is None:
        raise unknown(name)
    return id


def unknown(name: str) -> NotFound:
    return NotFound("BUDGET_UNKNOWN", "Your tenant has no such budget.", name=name[:200])


def exists(name: str) -> Exists:
    message = "There is a budget for these callers, this window and tier already. Change that one."
    return Exists("BUDGET_EXISTS", message, name=name)


def wrong(field: str, why: str) -> Invalid:
    return Invalid("REQUEST_INVALID", f"The field {field} is wrong: {why}.", field=field)
