"""Feedback in Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.common.db import Record, Transaction
from services.common.errors import Precondition
from services.router.names import decision_name
from soma.router.v1.feedback_pb2 import Feedback

COLUMNS = "id, subject, turn, requested_tier, provider, model, tier, create_time"
BY_ID = f"SELECT {COLUMNS} FROM decisions WHERE id = $1"  # noqa: S608 - a constant
BY_TURN = f"SELECT {COLUMNS} FROM decisions WHERE turn = $1 ORDER BY create_time DESC LIMIT 1"  # noqa: S608
KEEP = """
INSERT INTO feedback (decision, source, subject, score, create_time, update_time) VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (decision, source, subject) DO UPDATE SET score = excluded.score, update_time = excluded.update_time
RETURNING create_time, update_time
"""


@dataclass(frozen=True, slots=True)
class Decided:
    """What there is to know of a decision."""

    id: UUID
    subject: str
    turn: str
    requested_tier: str
    provider: str
    model: str
    tier: str
    create_time: datetime


async def by_id(tx: Transaction, id: UUID) -> Decided | None:
    return decided(await tx.fetchrow(BY_ID, id))


async def by_turn(tx: Transaction, turn: str) -> Decided | None:
    """The turn's last one."""
    return decided(await tx.fetchrow(BY_TURN, turn))


async def keep(tx: Transaction, decision: UUID, said: Feedback, now: datetime) -> tuple[datetime, datetime]:
    """When it was first given, and when last: now."""
    row = await tx.fetchrow(KEEP, decision, said.source, tx.caller.subject, said.score, now)
    if row is None:
        raise RuntimeError("an upsert gives its row back")
    return row["create_time"], row["update_time"]


def decided(row: Record | None) -> Decided | None:
    return Decided(**dict(row)) if row else None


def expired(row: Decided) -> Precondition:
    message = "The answer is older than 30 days: what is thought of it now is not learned from any more."
    return Precondition("DECISION_EXPIRED", message, decision=decision_name(row.id))
