"""What tenants' tables hold of what was told, a page at a time, in the tenant's name; without what people wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.workers.reconcile.findings import ENDS, PANE_TOLD, Row

PAGE = 1000
LONG = timedelta(hours=1)
"""No turn takes longer: one that ended in a time was asked at most so long before it."""

Turn: TypeAlias = tuple[UUID, UUID]
"""A conversation and a turn in it."""


def reading(db: Database, tenant: str) -> AbstractAsyncContextManager[Transaction]:
    return db.tenant(Caller.system("workers", tenant))


def first_id(time: datetime) -> UUID:
    """Below every UUIDv7 that was made at that time or later."""
    return UUID(int=int(time.timestamp() * 1000) << 80)


CONVERSATIONS = "SELECT id, create_time FROM conversations WHERE id > $1 ORDER BY id LIMIT $2"
TURNS = """
SELECT id, conversation, state, create_time, end_time FROM turns WHERE id > $1 ORDER BY id LIMIT $2
"""
DECISIONS = "SELECT id, create_time, settle_time FROM decisions WHERE id > $1 ORDER BY id LIMIT $2"


async def told(db: Database, tenant: str, since: datetime) -> AsyncIterator[Sequence[Row]]:
    """Everything that was made or ended since then. Each page is one of Postgres' moments."""
    for statement, as_row in ((CONVERSATIONS, conversation), (TURNS, turn), (DECISIONS, decision)):
        last = first_id(since - LONG)
        while rows := await look(db, tenant, statement, last):
            yield [as_row(row) for row in rows]
            last = rows[-1]["id"]
    async for page in panes(db, tenant, since):
        yield page


PANES = """
SELECT id, conversation, version_time FROM panes WHERE (version_time, id) > ($1, $2)
ORDER BY version_time, id LIMIT $3
"""


async def panes(db: Database, tenant: str, since: datetime) -> AsyncIterator[Sequence[Row]]:
    place = since, UUID(int=0)
    while True:
        async with reading(db, tenant) as tx:
            rows = await tx.fetch(PANES, *place, PAGE)
        if not rows:
            return
        yield [pane(row) for row in rows]
        place = rows[-1]["version_time"], rows[-1]["id"]


async def look(db: Database, tenant: str, statement: str, last: UUID) -> Sequence[Any]:
    async with reading(db, tenant) as tx:
        return await tx.fetch(statement, last, PAGE)


def conversation(row: Any) -> Row:
    told = ((row["create_time"], ("conversation.created",)),)
    return Row(f"conversations/{row['id']}", (row["id"],), told)


def turn(row: Any) -> Row:
    """One that runs has not ended."""
    end = ENDS.get(row["state"])
    told = ((row["create_time"], ("turn.asked",)), *(((row["end_time"], (end,)),) if end else ()))
    return Row(f"conversations/{row['conversation']}/turns/{row['id']}", (row["id"],), told)


def decision(row: Any) -> Row:
    told = (row["create_time"], ("routing.decided",)), (row["settle_time"], ("routing.settled",))
    return Row(f"decisions/{row['id']}", (row["id"],), told)


def pane(row: Any) -> Row:
    name = f"conversations/{row['conversation']}/panes/{row['id']}"
    return Row(name, (row["conversation"], row["id"]), ((row["version_time"], PANE_TOLD),), newest=True)


GONE = {
    "turns": """
        SELECT id FROM unnest($1::uuid[]) AS given (id) WHERE NOT EXISTS (SELECT FROM turns WHERE turns.id = given.id)
    """,
    "conversations": """
        SELECT id FROM unnest($1::uuid[]) AS given (id)
        WHERE NOT EXISTS (SELECT FROM conversations WHERE conversations.id = given.id)
    """,
    "decisions": """
        SELECT id FROM unnest($1::uuid[]) AS given (id)
        WHERE NOT EXISTS (SELECT FROM decisions WHERE decisions.id = given.id)
    """,
}


async def gone(db: Database, tenant: str, table: str, ids: Iterable[UUID]) -> set[UUID]:
    """Those that the table does not have."""
    found, left = set[UUID](), sorted(ids)
    while left:
        async with reading(db, tenant) as tx:
            found |= {row["id"] for row in await tx.fetch(GONE[table], left[:PAGE])}
        left = left[PAGE:]
    return found


LONG_ENDED = """
SELECT id FROM unnest($1::uuid[]) AS given (id) LEFT JOIN turns USING (id)
WHERE CASE WHEN turns.id IS NULL THEN given.id < $3 ELSE state <> 'running' AND end_time < $2 END
"""


async def long_ended(db: Database, tenant: str, turns: Sequence[UUID], before: datetime) -> set[UUID]:
    """Those that had ended by then, or are not there any more."""
    found = set[UUID]()
    for n in range(0, len(turns), PAGE):
        async with reading(db, tenant) as tx:
            rows = await tx.fetch(LONG_ENDED, turns[n : n + PAGE], before, first_id(before - LONG))
        found |= {row["id"] for row in rows}
    return found
