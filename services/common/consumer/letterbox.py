"""Letters in the hands of a person: looked at, tried again, or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.common.consumer import letters
from services.common.db import Database, Record, Transaction

FACTS = (
    '"group", id, state, attempt, due_time, reason, topic, part, "offset", tenant, key, type, traceparent, log_time, '
    "create_time"
)
LIST = f"""
SELECT {FACTS} FROM soma.retries
WHERE ($1 = '' OR "group" = $1) AND state <> 'dropped' ORDER BY "group", create_time LIMIT $2
"""  # noqa: S608 - constants
FIND = f"""
SELECT {FACTS}, payload FROM soma.retries WHERE id = $1 AND ($2 = '' OR "group" = $2) ORDER BY "group"
"""  # noqa: S608 - constants
AGAIN = """
UPDATE soma.retries SET state = 'waiting', attempt = 0, due_time = 'infinity'
WHERE "group" = $1 AND (id = $2 OR $2 IS NULL AND state = 'dead') RETURNING true
"""
DROP = """
UPDATE soma.retries SET state = 'dropped', reason = $3 WHERE "group" = $1 AND id = $2 AND state <> 'dropped'
RETURNING true
"""


async def look(db: Database, group: str, most: int) -> Sequence[Record]:
    """Waiting and dead, of one group or of all, without what is in them."""
    return await db.look(LIST, group, most)


async def find(db: Database, id: UUID, group: str = "") -> Sequence[Record]:
    """The letters of one event, one a group at most; dropped ones too."""
    return await db.look(FIND, id, group)


async def again(tx: Transaction, group: str, id: UUID | None = None) -> int:
    """Try one letter of the group, or all its dead, as if for the first time; those of one key in order. How many."""
    count = len(await tx.fetch(AGAIN, group, id))
    await letters.wake(tx, group)
    return count


async def drop(tx: Transaction, group: str, id: UUID, why: str) -> bool:
    """Never try the letter again; its key goes on. It is kept, with the reason. False when there is none to drop."""
    dropped = await tx.fetchval(DROP, group, id, why)
    await letters.wake(tx, group)
    return bool(dropped)
