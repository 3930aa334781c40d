"""The event log in Postgres: the outbox' own database is the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from services.common.caller import WORKERS
from services.common.clock import new_id
from services.common.db import Database, Transaction
from services.common.ears import Ears, open_ears
from services.common.log.gathering import Gathering
from services.common.log.log import Drained, Entry, Place, Reader, Shard, Unpublishable
from services.common.log.postgres import leases
from services.common.log.postgres.leases import CHANNEL, Seat
from services.common.log.postgres.member import COLUMNS, entry, join
from services.common.log.relaying import NO_TOPIC, TOO_LONG
from services.common.log.topics import TOPICS
from services.common.outbox import LONGEST_EVENT

ENTRIES = "soma_log"
"""The channel on which the relay tells topics that have new entries."""
LEASE_S = 10.0
DAYS_AHEAD = 7

DRAIN = """
WITH known AS (SELECT * FROM unnest($4::text[], $5::int[]) AS known (topic, parts)),
taken AS (
    DELETE FROM soma.outbox
    WHERE seq = ANY (ARRAY(SELECT seq FROM soma.outbox WHERE slot % $2::int = $1::int ORDER BY seq LIMIT $3::int))
    RETURNING seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time,
              octet_length(payload::text) AS size),
placed AS (
    SELECT taken.*, slot % parts AS part,
           row_number() OVER (PARTITION BY aggregatetype, slot % parts ORDER BY seq) AS nth,
           count(*) OVER (PARTITION BY aggregatetype, slot % parts) AS count
    FROM taken JOIN known ON topic = aggregatetype WHERE size <= $6::int),
heads AS (
    INSERT INTO soma.log_heads AS head (topic, part, next, time)
    SELECT aggregatetype, part, count(*), clock_timestamp() FROM placed GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (topic, part) DO UPDATE
    SET next = head.next + EXCLUDED.next, time = greatest(head.time, EXCLUDED.time)
    RETURNING topic, part, next, time),
logged AS (
    INSERT INTO soma.log (topic, part, "offset", time, id, size, tenant, key, type, payload, traceparent)
    SELECT topic, part, next - count + nth - 1, time, id, size, tenant, aggregateid, type,
           payload, traceparent
    FROM placed JOIN heads USING (part) WHERE topic = aggregatetype
    RETURNING topic),
aside AS (
    INSERT INTO soma.outbox_aside (seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent,
        create_time, reason)
    SELECT seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time,
           CASE WHEN known.topic IS NULL THEN $7 ELSE $8 END
    FROM taken LEFT JOIN known ON topic = aggregatetype WHERE known.topic IS NULL OR size > $6::int
    RETURNING aggregatetype)
SELECT topic, count(*) AS count, true AS moved, pg_notify('soma_log', topic) FROM logged GROUP BY topic
UNION ALL
SELECT aggregatetype, count(*), false, NULL FROM aside GROUP BY aggregatetype
"""
KNOWN_HEADS = "SELECT DISTINCT topic FROM soma.log_heads"
MAKE_HEADS = """
INSERT INTO soma.log_heads (topic, part) SELECT $1, n FROM generate_series(0, $2::int - 1) AS n ON CONFLICT DO NOTHING
"""
MAKE_DAYS = "SELECT soma.make_log_days($1)"
ENDS = """
SELECT part, next, coalesce((SELECT log."offset" FROM soma.log WHERE log.topic = head.topic AND log.part = head.part
                             ORDER BY log."offset" LIMIT 1), next) AS first
FROM soma.log_heads AS head WHERE topic = $1
"""
AT = """
SELECT part, coalesce((SELECT log."offset" FROM soma.log WHERE log.topic = head.topic AND log.part = head.part
                       AND log.time >= $2 ORDER BY log."offset" LIMIT 1), next) AS first
FROM soma.log_heads AS head WHERE topic = $1
"""
READ = f"""
SELECT {COLUMNS} FROM soma.log WHERE topic = $1 AND part = $2 AND "offset" >= $3 ORDER BY "offset" LIMIT $4
"""  # noqa: S608 - constants


class refusals:  # noqa: N801 - reads as a phrase: with refusals()
    """Turns what Postgres will never take into Unpublishable."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        never = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
        if isinstance(fault, never):
            raise Unpublishable(str(fault)) from fault


@dataclass(frozen=True, slots=True)
class PostgresLog:
    """One statement moves a batch from the outbox into the log, within the database."""

    db: Database
    ears: Ears
    lease_s: float = LEASE_S
    name: str = field(default="postgres", init=False)

    async def make_topics(self) -> Sequence[str]:
        async with self.db.own(WORKERS) as tx:
            known = {row["topic"] for row in await tx.fetch(KNOWN_HEADS)}
            for topic in TOPICS.values():
                await tx.execute(MAKE_HEADS, topic.name, topic.parts)
        async with self.db.own(WORKERS) as tx:
            await tx.execute(MAKE_DAYS, DAYS_AHEAD)
        return [name for name in TOPICS if name not in known]

    async def drain(self, tx: Transaction, shard: Shard, most: int) -> Drained:
        names, parts = list(TOPICS), [topic.parts for topic in TOPICS.values()]
        with refusals():
            rows = await tx.fetch(DRAIN, shard.number, shard.of, most, names, parts, LONGEST_EVENT, NO_TOPIC, TOO_LONG)
        moved = {row["topic"]: row["count"] for row in rows if row["moved"]}
        return Drained(moved, {row["topic"]: row["count"] for row in rows if not row["moved"]})

    @asynccontextmanager
    async def reader(self, group: str, topics: Sequence[str], *, gather_s: float = 0.0) -> AsyncIterator[Reader]:
        seat = Seat(group, tuple(topics), new_id(), self.lease_s)
        with self.ears.ear(ENTRIES, *topics) as news, self.ears.ear(CHANNEL, group) as changes:
            async with join(self.db, seat, news, changes, Gathering(gather_s)) as member:
                yield member

    async def ends(self, topic: str) -> Mapping[Place, tuple[int, int]]:
        rows = await self.db.look(ENDS, topic)
        return {(topic, row["part"]): (row["first"], row["next"]) for row in rows}

    async def at(self, topic: str, time: datetime) -> Mapping[Place, int]:
        return {(topic, row["part"]): row["first"] for row in await self.db.look(AT, topic, time)}

    async def standing(self, group: str) -> Mapping[Place, int]:
        return await leases.standing(self.db, group)

    async def stand(self, group: str, places: Mapping[Place, int]) -> None:
        async with self.db.own(WORKERS) as tx:
            await leases.stand(tx, group, places)

    async def groups(self) -> Sequence[str]:
        return await leases.groups(self.db)

    async def read(self, place: Place, start: int, most: int) -> Sequence[Entry]:
        return [entry(row) for row in await self.db.look(READ, *place, start, most)]


@asynccontextmanager
async def open_postgres_log(db: Database, *, lease_s: float = LEASE_S) -> AsyncIterator[PostgresLog]:
    async with open_ears(db, ENTRIES, CHANNEL) as ears:
        yield PostgresLog(db, ears, lease_s)
