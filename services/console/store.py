"""The sealed events in Postgres, read by the tenant whose they are. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.common.db import Record, Transaction
from services.console.names import event_name
from soma.console.v1.audit_pb2 import AuditEvent

PLAN = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_bitmapscan', 'off', true)
"""
END = "SELECT index + 1 FROM soma.audit WHERE tenant = $1 ORDER BY index DESC LIMIT 1"
SPAN = """
SELECT count(*) AS events, min(index) AS lowest, max(index) + 1 AS after FROM (
    SELECT index FROM soma.audit
    WHERE tenant = $1 AND time >= coalesce($2::timestamptz, '-infinity')
        AND time < coalesce($3::timestamptz, 'infinity') LIMIT $4
) AS within
"""
FITTING = """
SELECT index, octet_length(canonical) AS size_bytes FROM soma.audit
WHERE tenant = $1 AND index >= $2 AND index < $3 AND ($4::text IS NULL OR subject = $4)
    AND ($5::text IS NULL OR action = $5) AND ($6::text IS NULL OR starts_with(action, $6))
    AND ($7::text IS NULL OR resource = $7) AND ($8::text IS NULL OR outcome = $8)
    AND ($9::timestamptz IS NULL OR time >= $9) AND ($10::timestamptz IS NULL OR time < $10)
ORDER BY index DESC LIMIT $11
"""
EVENTS = (
    "SELECT index, time, canonical, chain FROM soma.audit WHERE tenant = $1 AND index = ANY ($2) ORDER BY index DESC"
)

LEAF = "SELECT leaf FROM soma.audit WHERE tenant = $1 AND index = $2"

TEXTS = ("id", "action", "subject", "person", "workload", "resource", "outcome", "reason", "trace")
"""The fields of an event that are texts."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What an event must have; None lets all pass."""

    subject: str | None = None
    action: str | None = None
    prefix: str | None = None
    """What the action begins with."""
    resource: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def plan_for_values(tx: Transaction) -> None:
    """Which index serves depends on what is asked for, so Postgres is to look at the values each time; and a few of the
    newest are wanted, so it is not to gather all first."""
    await tx.execute(PLAN)


async def size(tx: Transaction) -> int:
    """How many events are sealed."""
    found: int | None = await tx.fetchval(END, tx.caller.tenant)
    return found or 0


async def span(tx: Transaction, wanted: Filter, most: int) -> tuple[int, int] | None:
    """The lowest index of the events in the filter's time, and the one after the highest. None when that takes to look
    at as many as `most`."""
    row = await tx.fetchrow(SPAN, tx.caller.tenant, wanted.since, wanted.until, most)
    if row is None or row["events"] >= most:
        return None
    return (row["lowest"], row["after"]) if row["events"] else (0, 0)


async def fitting(tx: Transaction, wanted: Filter, lowest: int, before: int, most: int) -> list[tuple[int, int]]:
    """The newest that pass: index, and size in bytes."""
    by = (wanted.subject, wanted.action, wanted.prefix, wanted.resource, wanted.outcome, wanted.since, wanted.until)
    rows = await tx.fetch(FITTING, tx.caller.tenant, lowest, before, *by, most)
    return [(row["index"], row["size_bytes"]) for row in rows]


async def leaf(tx: Transaction, index: int) -> bytes | None:
    found: bytes | None = await tx.fetchval(LEAF, tx.caller.tenant, index)
    return found


async def events(tx: Transaction, indices: Sequence[int]) -> list[AuditEvent]:
    """Newest first. `person` is still sealed in them."""
    return [as_event(row) for row in await tx.fetch(EVENTS, tx.caller.tenant, indices)]


def as_event(row: Record) -> AuditEvent:
    """All but the chain is read from the bytes that were sealed. What a field cannot hold stays empty, for the time
    stands the row's: an auditor gets every event with its bytes, whatever they are."""
    told = told_in(row["canonical"])
    event = AuditEvent(name=event_name(row["index"]), index=row["index"], canonical=row["canonical"])
    event.chain = row["chain"]
    for text in TEXTS:
        with suppress(TypeError, ValueError):
            setattr(event, text, told.get(text, ""))
    try:
        event.time.FromJsonString(told["time"])
    except (KeyError, TypeError, ValueError, AttributeError):
        event.time.FromDatetime(row["time"])
    return event


def told_in(canonical: bytes) -> Mapping[str, Any]:
    """What the bytes say; nothing when they are no JSON object."""
    try:
        told = json.loads(canonical)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
