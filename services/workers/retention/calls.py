"""Retention of what the router keeps of calls: decisions with what was said of them, and the ledger.

A decision is needed as long as feedback is taken of it and the log tells of it, and for replays. The ledger's rows are
needed by windows and by `/v1/spend`; what a budget has counted already stays counted without them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from services.common.caller import WORKERS, Caller
from services.common.db import Database
from services.common.telemetry import log

DECISION_DAYS, LEDGER_DAYS = 90, 400
LEAST_DAYS = 62
"""Feedback is taken for 30 days, the log tells of that for 30 more; the longest window has 31."""
MOST_DAYS = 36500
AT_ONCE = 5000
"""Rows in one transaction."""

TENANTS = """
SELECT name FROM soma.tenants
WHERE EXISTS (SELECT FROM pg_tables WHERE schemaname = 't_' || name AND tablename = 'feedback') ORDER BY name
"""
FORGET_DECISIONS = """
WITH old AS MATERIALIZED (
    SELECT id FROM decisions
    WHERE id < soma.id_at(now() - make_interval(days => $1)) AND create_time < now() - make_interval(days => $1)
    ORDER BY id LIMIT $2
), unsaid AS (DELETE FROM feedback WHERE decision IN (SELECT id FROM old)
), gone AS (DELETE FROM decisions WHERE id IN (SELECT id FROM old) RETURNING 1)
SELECT count(*) FROM gone
"""
FORGET_LEDGER = "SELECT soma.forget_ledger($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Gone:
    """Rows."""

    decisions: int = 0
    ledger: int = 0


@dataclass(frozen=True, slots=True)
class Calls:
    db: Database
    decision_days: int = DECISION_DAYS
    ledger_days: int = LEDGER_DAYS
    at_once: int = AT_ONCE

    async def sweep(self) -> Mapping[str, Gone]:
        """Let go of what is old. Returns what is gone, by tenant. Raises Unavailable."""
        swept = dict[str, Gone]()
        for row in await self.db.look(TENANTS):
            gone = await self._sweep(row["name"])
            if gone != Gone():
                swept[row["name"]] = gone
                log().info("old calls are forgotten", tenant=row["name"], decisions=gone.decisions, ledger=gone.ledger)
        return swept

    async def _sweep(self, tenant: str) -> Gone:
        decisions = await until_none_is_left(partial(self._decisions, tenant), self.at_once)
        return Gone(decisions, await until_none_is_left(partial(self._ledger, tenant), self.at_once))

    async def _decisions(self, tenant: str) -> int:
        async with self.db.upkeep(Caller.system("workers", tenant)) as tx:
            return int(await tx.fetchval(FORGET_DECISIONS, self.decision_days, self.at_once))

    async def _ledger(self, tenant: str) -> int:
        async with self.db.own(WORKERS) as tx:
            return int(await tx.fetchval(FORGET_LEDGER, tenant, self.ledger_days, self.at_once))


async def until_none_is_left(forget: Callable[[], Awaitable[int]], at_once: int) -> int:
    """How many it were."""
    gone = [await forget()]
    while gone[-1] == at_once:
        gone.append(await forget())
    return sum(gone)
