"""Budgets in Postgres, with where their windows stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.common.db import Record, Transaction
from services.common.names import UUID_TEXT
from soma.router.v1.budget_pb2 import Budget, BudgetState, Limit, LimitOverride

NAME = re.compile(f"budgets/{UUID_TEXT}")
FIGURES = ("microusd", "tokens", "requests")

LOCK = "SELECT soma.hold_ledger()"


async def lock(tx: Transaction) -> None:
    """Nobody is admitted in the tenant until the transaction ends: each call sees a change wholly or not at all."""
    await tx.execute(LOCK)


ADD = """
INSERT INTO soma.budgets (tenant, id, scope, whose, period, rolling, tier, microusd, tokens, requests,
    override_microusd, override_tokens, override_requests, override_end_time, override_reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING RETURNING true
"""
COUNT = "SELECT soma.count_budget($1)"


async def add(tx: Transaction, id: UUID, b: Budget) -> bool:
    """Make it, counting what the ledger has in its window. False when there is one like it."""
    by = (tx.caller.tenant, id, b.scope, b.of, b.window, b.rolling, b.tier)
    if not await tx.fetchval(ADD, *by, *figures(b.limit), *overriding(b)):
        return False
    await tx.execute(COUNT, id)
    return True


LIKE = "SELECT id FROM soma.budgets WHERE tenant = $1 AND scope = $2 AND whose = $3 AND period = $4 AND tier = $5"


async def like(tx: Transaction, b: Budget) -> str:
    """The name of the one that is in the way."""
    return name_of(await tx.fetchval(LIKE, tx.caller.tenant, b.scope, b.of, b.window, b.tier))


COLUMNS = """
SELECT b.id, b.scope, b.whose, b.period, b.rolling, b.tier, b.microusd, b.tokens, b.requests, b.override_microusd,
    b.override_tokens, b.override_requests, b.override_end_time, b.override_reason, b.version, b.create_time,
    b.update_time, b.override_end_time > now() AS is_overridden, s.*,
    CASE WHEN b.period = 'total' THEN NULL WHEN b.rolling THEN now() - soma.width_of(b.period)
         ELSE soma.window_begin(b.period, false, now()) END AS begin_time,
    soma.renewal(b.period, b.rolling, s.oldest, now()) AS renew_time
FROM soma.budgets b LEFT JOIN LATERAL
    soma.standing(b.tenant, b.id, b.scope, b.whose, b.period, b.rolling, b.tier, now()) s ON b.whose <> '*'
WHERE b.tenant = $1 AND
"""
FIND = COLUMNS + " b.id = $2"


async def find(tx: Transaction, id: UUID) -> Budget | None:
    row = await tx.fetchrow(FIND, tx.caller.tenant, id)
    return as_budget(row) if row else None


PAGE = COLUMNS + " b.id < $2 ORDER BY b.id DESC LIMIT $3"


async def page(tx: Transaction, before: UUID, most: int) -> Sequence[Budget]:
    """Newest first."""
    return [as_budget(row) for row in await tx.fetch(PAGE, tx.caller.tenant, before, most)]


CHANGE = """
UPDATE soma.budgets SET microusd = $3, tokens = $4, requests = $5, override_microusd = $6, override_tokens = $7,
    override_requests = $8, override_end_time = $9, override_reason = $10, version = version + 1, update_time = now()
WHERE tenant = $1 AND id = $2
"""


async def change(tx: Transaction, id: UUID, b: Budget) -> None:
    """Its limit and override."""
    await tx.execute(CHANGE, tx.caller.tenant, id, *figures(b.limit), *overriding(b))


DROP = "DELETE FROM soma.budgets WHERE tenant = $1 AND id = $2 RETURNING true"


async def drop(tx: Transaction, id: UUID) -> bool:
    """Whether it was there."""
    return bool(await tx.fetchval(DROP, tx.caller.tenant, id))


def figures(limit: Limit) -> tuple[int | None, ...]:
    fields = ("cost_microusd", "tokens", "requests")
    return tuple(getattr(limit, name) if limit.HasField(name) else None for name in fields)  # type: ignore[arg-type]


def overriding(b: Budget) -> tuple[int | datetime | str | None, ...]:
    if not b.HasField("override"):
        return (None, None, None, None, "")
    return (*figures(b.override.limit), b.override.end_time.ToDatetime(UTC), b.override.reason)


def as_budget(row: Record) -> Budget:
    budget = Budget(
        name=name_of(row["id"]), scope=row["scope"], of=row["whose"], window=row["period"], rolling=row["rolling"],
        tier=row["tier"], limit=limit_of(row, ""), etag=str(row["version"]), create_time=row["create_time"],
        update_time=row["update_time"],
    )  # fmt: skip
    if row["is_overridden"]:
        limit, end = limit_of(row, "override_"), row["override_end_time"]
        budget.override.CopyFrom(LimitOverride(limit=limit, end_time=end, reason=row["override_reason"]))
    if row["settled_requests"] is not None:
        budget.state.CopyFrom(state_of(row))
    return budget


def limit_of(row: Record, prefix: str) -> Limit:
    return Limit(
        cost_microusd=row[f"{prefix}microusd"], tokens=row[f"{prefix}tokens"], requests=row[f"{prefix}requests"]
    )


def state_of(row: Record) -> BudgetState:
    counts = {f"{kind}_{figure}": row[f"{kind}_{figure}"] for kind in ("settled", "held") for figure in FIGURES}
    return BudgetState(**counts, begin_time=row["begin_time"], renew_time=row["renew_time"])


def name_of(id: UUID) -> str:
    return f"budgets/{id}"


def id_of(name: str) -> UUID | None:
    """None for what cannot be a budget's name."""
    found = NAME.fullmatch(name)
    return UUID(found[1]) if found else None
