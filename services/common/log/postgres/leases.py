"""Who of a group reads which partition, and where the group stands: in Postgres, by leases.

Nobody is asked: each member renews what it holds, gives up what is above its share, and takes what is free or expired.
What lasts for longer than any lease was written before Postgres' clock went back, and has expired too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.common.db import Database, Record, Transaction
from services.common.log.log import Entry, Place
from services.common.log.topics import TOPICS

CHANNEL = "soma_log_groups"
"""Tells the name of a group in which something has changed."""

BOUND = "SELECT set_config('transaction_timeout', $1, true), set_config('lock_timeout', $1, true)"
MAKE_PLACES = """
INSERT INTO soma.log_groups ("group", topic, part)
SELECT $1, topic, part FROM unnest($2::text[], $3::int[]) AS made (topic, part) ON CONFLICT DO NOTHING
"""
SIT_DOWN = """
INSERT INTO soma.log_members ("group", member, topics, expire_time)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT ("group", member) DO UPDATE SET expire_time = EXCLUDED.expire_time
RETURNING xmax = 0
"""
STAND_UP = 'DELETE FROM soma.log_members WHERE "group" = $1 AND member = $2'
BURY = """
DELETE FROM soma.log_members WHERE ("group", member) IN (
    SELECT "group", member FROM soma.log_members
    WHERE "group" = $1 AND expire_time < clock_timestamp() - interval '1 day' FOR UPDATE SKIP LOCKED)
"""
PRESENT = """
SELECT member FROM soma.log_members
WHERE "group" = $1 AND topics && $2::text[]
  AND expire_time BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute'
"""
RENEW = """
UPDATE soma.log_groups AS lease SET expire_time = clock_timestamp() + make_interval(secs => $3)
FROM (SELECT topic, part FROM soma.log_groups WHERE "group" = $1 AND holder = $2 FOR UPDATE SKIP LOCKED) AS held
WHERE lease."group" = $1 AND lease.topic = held.topic AND lease.part = held.part
"""
HELD = """
SELECT topic, part, coalesce("offset", 0) AS next, since, term FROM soma.log_groups
WHERE "group" = $1 AND holder = $2 ORDER BY topic, part
"""
CLAIM = """
UPDATE soma.log_groups AS lease
SET holder = $2, term = term + 1, expire_time = clock_timestamp() + make_interval(secs => $3)
FROM (SELECT topic, part FROM soma.log_groups
      WHERE "group" = $1 AND topic = ANY ($4::text[]) AND (holder IS NULL OR
          expire_time NOT BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute')
      ORDER BY topic, part LIMIT $5 FOR UPDATE SKIP LOCKED) AS free
WHERE lease."group" = $1 AND lease.topic = free.topic AND lease.part = free.part
RETURNING lease.topic, lease.part, coalesce(lease."offset", 0) AS next, lease.since, lease.term
"""
GIVE_UP = """
UPDATE soma.log_groups AS lease SET holder = NULL, expire_time = NULL
FROM unnest($3::text[], $4::int[]) AS given (topic, part)
WHERE lease."group" = $1 AND lease.holder = $2 AND lease.topic = given.topic AND lease.part = given.part
"""
FIND = """
SELECT topic, part, coalesce("offset", 0) AS next, since, term FROM soma.log_groups
WHERE "group" = $1 AND holder = $2 AND topic = $3 AND part = $4
"""
HOLD = """
UPDATE soma.log_groups
SET "offset" = $5, since = $6, expire_time = clock_timestamp() + make_interval(secs => $9)
WHERE "group" = $1 AND holder = $2 AND topic = $3 AND part = $4 AND term = $7 AND coalesce("offset", 0) = $8
RETURNING set_config('idle_in_transaction_session_timeout', $10, true)
"""
TELL = "SELECT pg_notify('soma_log_groups', $1)"
STANDING = 'SELECT topic, part, "offset" FROM soma.log_groups WHERE "group" = $1 AND "offset" IS NOT NULL'
STAND = """
INSERT INTO soma.log_groups AS lease ("group", topic, part, "offset")
SELECT $1, topic, part, start FROM unnest($2::text[], $3::int[], $4::bigint[]) AS place (topic, part, start)
ORDER BY topic, part
ON CONFLICT ("group", topic, part) DO UPDATE
SET "offset" = EXCLUDED."offset", since = '-infinity', term = lease.term + 1
"""
ALL_GROUPS = 'SELECT DISTINCT "group" FROM soma.log_groups WHERE "offset" IS NOT NULL ORDER BY 1'


@dataclass(frozen=True, slots=True)
class Lease:
    """A partition that a member holds, and where the group stands in it."""

    place: Place
    next: int
    since: datetime
    """No entry from there on is older."""
    term: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A member's place in its group."""

    group: str
    topics: tuple[str, ...]
    member: UUID
    lease_s: float


async def sit_down(tx: Transaction, seat: Seat) -> None:
    """Be counted as present for the time of a lease. The first time the others are told."""
    within = f"{seat.lease_s * 1000:.0f}ms"
    await tx.fetchrow(BOUND, within)
    if await tx.fetchval(SIT_DOWN, seat.group, seat.member, list(seat.topics), seat.lease_s):
        places = [(topic, part) for topic in seat.topics for part in range(TOPICS[topic].parts)]
        await tx.execute(MAKE_PLACES, seat.group, *columns(places))
        await tx.execute(BURY, seat.group)
        await tx.execute(TELL, seat.group)


async def renewed(tx: Transaction, seat: Seat) -> Sequence[Lease]:
    """What the member holds, for the time of a lease from now."""
    await tx.execute(RENEW, seat.group, seat.member, seat.lease_s)
    return [lease(row) for row in await tx.fetch(HELD, seat.group, seat.member)]


async def share(tx: Transaction, seat: Seat) -> int:
    """How many partitions are this member's fair part."""
    present = {seat.member, *(row["member"] for row in await tx.fetch(PRESENT, seat.group, list(seat.topics)))}
    total = sum(TOPICS[topic].parts for topic in seat.topics)
    return fair_share(total, sorted(present).index(seat.member), len(present))


def fair_share(total: int, rank: int, members: int) -> int:
    """Shares differ by one at most, and are `total` together."""
    return total // members + (rank < total % members)


async def claimed(tx: Transaction, seat: Seat, most: int) -> Sequence[Lease]:
    """Partitions that nobody held, now the member's."""
    rows = await tx.fetch(CLAIM, seat.group, seat.member, seat.lease_s, list(seat.topics), most)
    return [lease(row) for row in rows]


async def give_up(tx: Transaction, seat: Seat, places: Sequence[Place]) -> None:
    if places:
        await tx.execute(GIVE_UP, seat.group, seat.member, *columns(places))
        await tx.execute(TELL, seat.group)


async def stand_up(tx: Transaction, seat: Seat) -> None:
    """Leave the group and everything that is held."""
    held = [lease(row).place for row in await tx.fetch(HELD, seat.group, seat.member)]
    await tx.execute(STAND_UP, seat.group, seat.member)
    await give_up(tx, seat, held)
    await tx.execute(TELL, seat.group)


async def found(db: Database, seat: Seat, place: Place) -> Lease | None:
    """The lease as it is now. None: the member does not hold it."""
    rows = await db.look(FIND, seat.group, seat.member, *place)
    return lease(rows[0]) if rows else None


async def hold(tx: Transaction, seat: Seat, term: int, stands: int, last: Entry) -> bool:
    """Move the group from where it must stand to behind `last`, in the transaction that has done what is in between.
    Not when the lease is another's or of another term, or the group stands elsewhere. From here on the transaction may
    not stand still for longer than a lease: others wait for its row."""
    row = await tx.fetchrow(
        HOLD, seat.group, seat.member, *last.place, last.offset + 1, last.time, term, stands, seat.lease_s,
        f"{seat.lease_s * 1000:.0f}ms",
    )  # fmt: skip
    return row is not None


async def standing(db: Database, group: str) -> Mapping[Place, int]:
    return {(row["topic"], row["part"]): row["offset"] for row in await db.look(STANDING, group)}


async def stand(tx: Transaction, group: str, places: Mapping[Place, int]) -> None:
    await tx.execute(STAND, group, *columns(list(places)), list(places.values()))
    await tx.execute(TELL, group)


async def groups(db: Database) -> Sequence[str]:
    return [row["group"] for row in await db.look(ALL_GROUPS)]


def lease(row: Record) -> Lease:
    return Lease((row["topic"], row["part"]), row["next"], row["since"], row["term"])


def columns(places: Sequence[Place]) -> tuple[list[str], list[int]]:
    return [topic for topic, _ in places], [part for _, part in places]
