"""Which events a group has handled: a mark is set in the transaction that handles the event.

A mark is an id and no more, since ids are unique: rooms make them (clock.new_id). What somebody else puts into the log
under an id that is taken counts as a repeat, whatever it says. Reconciliation finds such pairs in the audit trail.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.common.db import Database, Transaction

KEEP_DAYS = 7
"""An event that comes again later than this is handled again."""

MARK = """
INSERT INTO soma.handled ("group", id)
SELECT $1, id FROM unnest($2::uuid[]) WITH ORDINALITY AS given (id, n) ORDER BY n
ON CONFLICT DO NOTHING RETURNING id
"""
MARKED = 'SELECT id FROM soma.handled WHERE "group" = $1 AND id = ANY ($2::uuid[])'
CLEAR = 'DELETE FROM soma.handled WHERE "group" = $1 AND id = ANY ($2::uuid[])'
ROLL = "SELECT soma.roll_handled($1)"


async def mark(tx: Transaction, group: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those that had no mark. One that is being handled elsewhere is waited for."""
    return {row["id"] for row in await tx.fetch(MARK, group, ids)}


async def marked(db: Database, group: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those that have one."""
    return {row["id"] for row in await db.look(MARKED, group, ids)}


async def clear(tx: Transaction, group: str, ids: Sequence[UUID]) -> None:
    """Let the group handle them again when they come again."""
    await tx.execute(CLEAR, group, ids)


async def roll(tx: Transaction) -> None:
    """Make room for the marks of these days, and drop old ones."""
    await tx.execute(ROLL, KEEP_DAYS)
