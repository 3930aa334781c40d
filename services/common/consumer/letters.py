"""Letters: events that a group could not handle yet, those of their keys that wait behind them, and those given up.

Of each key the first waiting letter alone has a time at which it is due. A claim counts as an attempt before the work
begins, so that an event that kills its worker is given up too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.db import Database, Record, Transaction
from services.common.log.log import Entry, LeaseLost

REASON_LETTERS = 500
UNWRITABLE = re.compile(r"[\0\ud800-\udfff]")
"""No text of Postgres can hold NUL, or half a character."""

BLOCKED = """
SELECT asked.key FROM unnest($3::text[]) AS asked (key) WHERE EXISTS (
    SELECT FROM soma.retries AS letter
    WHERE "group" = $1 AND topic = $2 AND letter.key = asked.key AND state = 'waiting')
"""
KEEP = """
INSERT INTO soma.retries ("group", id, state, attempt, due_time, reason, topic, part, "offset", tenant, key, type,
    payload, traceparent, log_time)
SELECT $1, id, $2, $3, coalesce(now() + make_interval(secs => $4), 'infinity'), reason, topic, part, "offset", tenant,
    key, type, payload, traceparent, log_time
FROM unnest($5::uuid[], $6::text[], $7::text[], $8::int[], $9::bigint[], $10::text[], $11::text[], $12::text[],
            $13::bytea[], $14::text[], $15::timestamptz[])
    AS given (id, reason, topic, part, "offset", tenant, key, type, payload, traceparent, log_time)
ON CONFLICT ("group", id) DO UPDATE SET state = $2, attempt = $3, due_time = EXCLUDED.due_time, reason = EXCLUDED.reason
"""
COLUMNS = 'id, attempt, topic, part, "offset", tenant, key, type, payload, traceparent, log_time'
CLAIM = f"""
UPDATE soma.retries SET attempt = attempt + 1, due_time = now() + make_interval(secs => $2)
WHERE ("group", id) = (
    SELECT "group", id FROM soma.retries WHERE "group" = $1 AND state = 'waiting' AND due_time <= now()
    ORDER BY due_time LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""  # noqa: S608 - constants
IS_DUE = """
SELECT EXISTS (SELECT FROM soma.retries WHERE "group" = $1 AND state = 'waiting' AND due_time <= now()) AS due
"""
DONE = """
DELETE FROM soma.retries WHERE "group" = $1 AND id = $2 AND attempt = $3 AND state = 'waiting' RETURNING true
"""
FAILED = """
UPDATE soma.retries SET state = $4, due_time = now() + make_interval(secs => $5), reason = $6
WHERE "group" = $1 AND id = $2 AND attempt = $3 AND state = 'waiting' RETURNING true
"""
PUT_BACK = """
UPDATE soma.retries SET attempt = attempt - 1, due_time = now() + interval '0.2 seconds'
WHERE "group" = $1 AND id = $2 AND attempt = $3 AND state = 'waiting'
"""
WAKE_NEXT = """
UPDATE soma.retries SET due_time = now() WHERE due_time = 'infinity' AND ("group", id) = (
    SELECT "group", id FROM soma.retries WHERE "group" = $1 AND topic = $2 AND key = $3 AND state = 'waiting'
    ORDER BY "offset" LIMIT 1)
"""
WAKE_ALL = """
UPDATE soma.retries SET due_time = now()
WHERE due_time > now() + interval '10 minutes' AND "group" = $1 AND id = ANY (ARRAY(
    SELECT DISTINCT ON (topic, key) id FROM soma.retries WHERE "group" = $1 AND state = 'waiting'
    ORDER BY topic, key, "offset"))
"""
"""What is looked for is found once, before the rows are: as a join it would be looked for again for each row, since
Postgres believes the table to be as empty as it mostly is."""
COUNT = """
SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'dead') AS dead
FROM soma.retries WHERE "group" = $1 AND state <> 'dropped'
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One that was claimed. `attempt` counts from 1, this one included."""

    entry: Entry
    attempt: int


async def blocked(tx: Transaction, group: str, topic: str, keys: Collection[str]) -> set[str]:
    """The keys that have a letter waiting: what comes of them must wait behind it."""
    return {row["key"] for row in await tx.fetch(BLOCKED, group, topic, list(keys))}


async def queue(tx: Transaction, group: str, entries: Sequence[Entry]) -> None:
    """They wait behind the letters of their keys."""
    await _keep(tx, group, "waiting", 0, None, [(entry, "") for entry in entries])


async def put_off(tx: Transaction, group: str, entry: Entry, delay_s: float | None, reason: str) -> None:
    """It has failed once, and is due again after the delay; without one it is given up."""
    state, again_s = ("dead", 0.0) if delay_s is None else ("waiting", delay_s)
    await _keep(tx, group, state, 1, again_s, [(entry, reason)])


async def bury(tx: Transaction, group: str, dead: Sequence[tuple[Entry, str]]) -> None:
    """They are given up without an attempt, each for its reason."""
    await _keep(tx, group, "dead", 0, 0, dead)


async def is_due(db: Database, group: str) -> bool:
    """Whether there is a letter to claim."""
    return bool((await db.look(IS_DUE, group))[0]["due"])


async def claim(tx: Transaction, group: str, claim_s: float) -> Letter | None:
    """The letter that has been due for the longest. Nobody else gets it for so long."""
    row = await tx.fetchrow(CLAIM, group, claim_s)
    return letter(row) if row else None


async def done(tx: Transaction, group: str, letter: Letter) -> None:
    """The letter is handled in this transaction. LeaseLost when somebody else has claimed it since."""
    if not await tx.fetchval(DONE, group, letter.entry.id, letter.attempt):
        raise LeaseLost
    await wake(tx, group, letter.entry)


async def failed(tx: Transaction, group: str, letter: Letter, delay_s: float | None, reason: str) -> None:
    """It is due again after the delay; without one it is given up, and its key goes on."""
    state, again_s = ("dead", 0.0) if delay_s is None else ("waiting", delay_s)
    values = (letter.entry.id, letter.attempt, state, again_s, writable(reason))
    if await tx.fetchval(FAILED, group, *values) and delay_s is None:
        await wake(tx, group, letter.entry)


async def put_back(tx: Transaction, group: str, letter: Letter) -> None:
    """It could not be tried: the claim does not count."""
    await tx.execute(PUT_BACK, group, letter.entry.id, letter.attempt)


async def wake(tx: Transaction, group: str, behind: Entry | None = None) -> None:
    """Make the first letter of a key due that nothing is before: of this entry's key, or of all. For all, a time that
    is further away than any attempt from the next counts for nothing: Postgres' clock has gone back since."""
    if behind:
        await tx.execute(WAKE_NEXT, group, behind.topic, behind.key)
    else:
        await tx.execute(WAKE_ALL, group)


async def count(tx: Transaction, group: str) -> tuple[int, int]:
    """How many wait, and how many are dead."""
    row: Any = await tx.fetchrow(COUNT, group)
    return row["waiting"], row["dead"]


def letter(row: Record) -> Letter:
    entry = Entry(
        row["topic"], row["part"], row["offset"], row["id"], row["tenant"], row["key"], row["type"], row["payload"],
        row["traceparent"], row["log_time"],
    )  # fmt: skip
    return Letter(entry, row["attempt"])


def writable(reason: str) -> str:
    """As much of a reason as a letter holds, in letters that Postgres takes."""
    return UNWRITABLE.sub("", reason[:REASON_LETTERS])


async def _keep(
    tx: Transaction, group: str, state: str, attempt: int, delay_s: float | None, entries: Sequence[tuple[Entry, str]]
) -> None:
    if not entries:
        return
    kept = [
        (
            e.id,
            writable(why),
            e.topic,
            e.part,
            e.offset,
            e.tenant,
            e.key,
            e.type,
            e.payload,
            e.traceparent,
            e.time,
        )
        for e, why in entries
    ]
    await tx.execute(KEEP, group, state, attempt, delay_s, *map(list, zip(*kept, strict=True)))
