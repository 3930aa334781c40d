"""The SLA monitor: the blueprint's SLOs, measured from what the log says, by tenant and hour. Every event counts once,
however often it comes: counts are what the facts of a turn, or of an audit event, come to."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from services.common.background import alongside
from services.common.caller import WORKERS
from services.common.consumer.consumer import Consumer
from services.common.db import Database, Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry
from services.common.telemetry import Sight, log
from services.workers.bench import Bench
from services.workers.slo import slo
from services.workers.slo.slo import SLOS, WINDOWS, Seen, Standing

GROUP, TOPICS = "sla", ("agent.messages", "agent.routing", "agent.audit")
ENDS = {"turn.answered": "answered", "turn.cancelled": "cancelled", "turn.failed": "failed"}
LOOK_S = 60.0
GATHER_S = 1.0
AT_ONCE = 10_000

Key: TypeAlias = tuple[UUID, str]
"""A turn and its tenant."""
Count: TypeAlias = tuple[str, datetime, str, str]
"""A tenant, hour, measure and bucket."""


async def work(bench: Bench) -> None:
    async with alongside(Monitor(bench.db, bench.sight).watch(), name="sla: watch"):
        await Consumer(bench.db, bench.log, bench.sight, GROUP, TOPICS, count, gather_s=GATHER_S).run()


async def count(tx: Transaction, entries: Sequence[Entry]) -> None:
    """The handler. Raises ValueError for what is no event."""
    events = [(entry, msgspec.json.decode(entry.payload)) for entry in entries]
    trail = [(entry, event) for entry, event in events if entry.topic == "agent.audit"]
    counts = await count_turns(tx, seen_of((entry.tenant, event) for entry, event in events if event.get("turn")))
    counts.update(await count_audit(tx, trail))  # += would lose what is taken away
    await add(tx, counts)


MAKE = """
INSERT INTO soma.slo_turns (turn, tenant) SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING
"""
HOLD = """
SELECT turn, tenant, asked_time, decided_time, first_token_ms, end_time, outcome
FROM soma.slo_turns JOIN unnest($1::uuid[], $2::text[]) AS given (turn, tenant) USING (turn, tenant)
ORDER BY turn, tenant FOR UPDATE OF slo_turns
"""
KEEP = """
UPDATE soma.slo_turns AS kept
SET asked_time = new.asked, decided_time = new.decided, first_token_ms = new.ms, end_time = new.ended,
    outcome = new.outcome
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::text[])
     AS new (turn, tenant, asked, decided, ms, ended, outcome)
WHERE kept.turn = new.turn AND kept.tenant = new.tenant
"""


async def count_turns(tx: Transaction, said: Mapping[Key, Seen]) -> Counter[Count]:
    """How the counts change by what was said of these turns. Who counts the same ones is waited for, in order."""
    changed: Counter[Count] = Counter()
    keys = sorted(said)
    columns = [turn for turn, _ in keys], [tenant for _, tenant in keys]
    if not keys:
        return changed
    await tx.execute(MAKE, *columns)
    news: dict[Key, Seen] = {}
    for row in await tx.fetch(HOLD, *columns):
        key, old = (row["turn"], row["tenant"]), Seen(*tuple(row)[2:])
        new = old | said[key]
        if new != old:
            news[key] = new
        changed.update({(key[1], *cell): 1 for cell in new.counts - old.counts})
        changed.subtract({(key[1], *cell): 1 for cell in old.counts - new.counts})
    if news:
        seen = news.values()
        await tx.execute(
            KEEP, [turn for turn, _ in news], [tenant for _, tenant in news], [each.asked for each in seen],
            [each.decided for each in seen], [each.first_token_ms for each in seen], [each.ended for each in seen],
            [each.outcome for each in seen],
        )  # fmt: skip
    return changed


MARK = """
INSERT INTO soma.slo_audit (id, tenant, hour, time)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS given (id, tenant, hour, time)
ORDER BY id ON CONFLICT DO NOTHING RETURNING id
"""


async def count_audit(tx: Transaction, trail: Iterable[tuple[Entry, Any]]) -> Counter[Count]:
    told = {entry.id: (entry, datetime.fromisoformat(event["time"])) for entry, event in trail}
    changed: Counter[Count] = Counter()
    if told:
        entries = [entry for entry, _ in told.values()]
        hours = [slo.hour(time) for _, time in told.values()]
        rows = await tx.fetch(MARK, list(told), [e.tenant for e in entries], hours, [e.time for e in entries])
        for entry, time in (told[row["id"]] for row in rows):
            how = slo.IN_TIME if entry.time - time <= slo.SOON else slo.LATE
            changed[entry.tenant, slo.hour(time), slo.AUDIT, how] += 1
    return changed


ADD = """
INSERT INTO soma.slo_hours AS kept (tenant, hour, measure, bucket, count)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (tenant, hour, measure, bucket) DO UPDATE SET count = kept.count + EXCLUDED.count
"""


async def add(tx: Transaction, counts: Mapping[Count, int]) -> None:
    cells = sorted(cell for cell, number in counts.items() if number)
    if cells:
        tenants, hours, measures, buckets = zip(*cells, strict=True)
        await tx.execute(ADD, tenants, hours, measures, buckets, [counts[cell] for cell in cells])


def seen_of(said: Iterable[tuple[str, Mapping[str, Any]]]) -> Mapping[Key, Seen]:
    """What events of tenants say of turns."""
    found: dict[Key, Seen] = defaultdict(Seen)
    for tenant, event in said:
        if turn := turn_of(event):
            found[turn, tenant] |= fact(event)
    return found


def fact(event: Mapping[str, Any]) -> Seen:
    kind, time = event.get("type", ""), datetime.fromisoformat(event["time"])
    if kind == "turn.asked":
        return Seen(asked=time)
    if kind in ENDS:
        return Seen(ended=time, outcome=ENDS[kind])
    if kind == "routing.decided":
        return Seen(decided=time)
    if kind == "routing.settled":
        return Seen(first_token_ms=event.get("firstTokenMs") or None)
    return Seen()


def turn_of(event: Mapping[str, Any]) -> UUID | None:
    """None for what is no turn's name."""
    try:
        return UUID(event["turn"].rpartition("/turns/")[2])
    except ValueError:
        return None


FOUND_SEALED = """
WITH found AS (
    UPDATE soma.slo_audit AS told SET sealed = true
    FROM (SELECT wait.id, wait.tenant FROM soma.slo_audit AS wait
          JOIN soma.audit AS leaf ON leaf.id = wait.id AND leaf.tenant = wait.tenant
          WHERE NOT wait.sealed ORDER BY wait.time LIMIT $1) AS waiting
    WHERE told.id = waiting.id AND told.tenant = waiting.tenant AND NOT told.sealed
    RETURNING told.tenant, told.hour)
SELECT tenant, hour, count(*) AS count FROM found GROUP BY tenant, hour
"""
COUNTED = """
SELECT tenant, measure, bucket, sum(count) FILTER (WHERE hour >= $1)::bigint AS "1h",
       sum(count) FILTER (WHERE hour >= $2)::bigint AS "24h", sum(count)::bigint AS "30d"
FROM soma.slo_hours WHERE hour >= $3 GROUP BY tenant, measure, bucket
UNION ALL
SELECT tenant, 'audit', 'unsealed', count(*) FILTER (WHERE hour >= $1), count(*) FILTER (WHERE hour >= $2), count(*)
FROM soma.slo_audit WHERE NOT sealed AND hour >= $3 AND time < now() - interval '1 minute' GROUP BY tenant
"""
FORGET_TURNS = """
WITH gone AS (DELETE FROM soma.slo_turns WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM soma.slo_turns WHERE turn < soma.id_at(now() - interval '40 days') LIMIT $1)) RETURNING 1)
SELECT count(*) FROM gone
"""
FORGET_AUDIT = """
WITH gone AS (DELETE FROM soma.slo_audit WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM soma.slo_audit WHERE sealed AND id < soma.id_at(now() - interval '40 days') LIMIT $1)) RETURNING 1)
SELECT count(*) FROM gone
"""
FORGET_HOURS = """
WITH gone AS (DELETE FROM soma.slo_hours WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM soma.slo_hours WHERE hour < now() - interval '40 days' LIMIT $1)) RETURNING 1)
SELECT count(*) FROM gone
"""
FORGETTING = (FORGET_TURNS, FORGET_AUDIT, FORGET_HOURS)


@dataclass(slots=True)
class Monitor:
    """Says in metrics how the SLOs stand, and in one line at level error when a tenant's begins to be missed."""

    db: Database
    sight: Sight
    look_s: float = LOOK_S
    at_once: int = AT_ONCE
    wrong: frozenset[tuple[str, str, str]] = field(default=frozenset(), init=False)
    """Tenants, SLOs and windows of which it was said."""

    async def watch(self) -> None:
        while True:
            try:
                self.tell(await self.look())
            except Unavailable as away:
                log().warning("the SLOs are not measured now", why=away.message)
            await asyncio.sleep(self.look_s)

    async def look(self) -> Mapping[str, Sequence[Standing]]:
        """How each tenant's SLOs stand, by the hours that a window touches. What was sealed meanwhile is counted."""
        while await self._count_sealed() == self.at_once:
            pass
        for statement in FORGETTING:
            while await self._forget(statement) == self.at_once:
                pass
        now = self.db.clock.now()
        rows = await self.db.look(COUNTED, *(slo.hour(now - window) for window in WINDOWS.values()))
        return standings([tuple(row) for row in rows])

    async def _count_sealed(self) -> int:
        """How many were found sealed, of one bounded transaction."""
        async with self.db.own(WORKERS) as tx:
            rows = await tx.fetch(FOUND_SEALED, self.at_once)
            counts = {(row["tenant"], row["hour"], slo.AUDIT, slo.SEALED): row["count"] for row in rows}
            await add(tx, counts)
        return sum(counts.values())

    async def _forget(self, statement: str) -> int:
        async with self.db.own(WORKERS) as tx:
            return int(await tx.fetchval(statement, self.at_once))

    def tell(self, tenants: Mapping[str, Sequence[Standing]]) -> None:
        wrong = {(tenant, s.slo.name, window) for tenant, all_ in tenants.items() for s in all_ for window in s.alerts}
        for tenant, name, window in sorted(wrong - self.wrong):
            stands = next(s for s in tenants[tenant] if s.slo.name == name)
            part = stands.shares[window]
            log().error(
                "an SLO is missed", tenant=tenant, slo=name, window=window, objective=stands.slo.objective,
                ratio=round(part.ratio, 6), bad=part.bad, of=part.total,
            )  # fmt: skip
        for tenant, name, window in sorted(self.wrong - wrong):
            log().info("an SLO is met again", tenant=tenant, slo=name, window=window)
        self.wrong = frozenset(wrong)
        for n, each in enumerate(SLOS):
            mesh = sum((all_[n] for all_ in tenants.values()), Standing(each))
            self.sight.slo_met.labels(each.name).set(mesh.is_met)
            self.sight.slo_ratio.labels(each.name).set(mesh.ratio)
            self.sight.slo_alerts.labels(each.name).set(len({t for t, name, _ in wrong if name == each.name}))
            for window in WINDOWS:
                self.sight.slo_burn.labels(each.name, window).set(mesh.burn(window))


def standings(rows: Sequence[tuple[Any, ...]]) -> Mapping[str, Sequence[Standing]]:
    """By tenant, in the order of SLOS, from (tenant, measure, bucket, and a count for each window)."""
    counted: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for tenant, measure, bucket, *counts in rows:
        for window, number in zip(WINDOWS, counts, strict=True):
            counted[tenant, measure, window][bucket] = number or 0
    return {
        tenant: [
            Standing(each, {w: slo.share(each, counted.get((tenant, each.measure, w), {})) for w in WINDOWS})
            for each in SLOS
        ]
        for tenant in sorted({tenant for tenant, *_ in rows})
    }
