"""Retention in Postgres: days of the log that all have read and the archive has are dropped, the oldest first.

A day goes when every topic in it was kept for its time (`topics`), every group has read past it, every event of it is
in an object that the archiver wrote down, and all those objects are still there, of their size. Postgres itself sees to
the first two (007_archive.sql). Without an archive days go by age alone. What the net table has caught stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from services.common.blobs import Blobs
from services.common.caller import WORKERS
from services.common.db import Database
from services.common.log.topics import TOPICS
from services.common.telemetry import log

DAYS = """
SELECT day FROM soma.log_days WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::int ORDER BY day
"""
UNARCHIVED = """
SELECT "offset" FROM soma.log AS entry
WHERE topic = $1 AND part = $2
  AND time >= $3::date::timestamp AT TIME ZONE 'UTC' AND time < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'
  AND NOT EXISTS (
    SELECT FROM soma.archived AS object
    WHERE object.log = 'postgres' AND object.topic = entry.topic AND object.part = entry.part
      AND object.tenant = entry.tenant AND object.last >= entry."offset" AND object.first <= entry."offset")
LIMIT 1
"""
OBJECTS = """
SELECT object, bytes, tenant, topic FROM soma.archived
WHERE log = 'postgres' AND hour >= $1::date::timestamp AT TIME ZONE 'UTC'
  AND hour < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
ORDER BY tenant, topic
"""
DROP = "SELECT soma.drop_log_day($1, $2)"


@dataclass(frozen=True, slots=True)
class Days:
    db: Database
    blobs: Blobs | None
    """None: there is no archive."""
    days: Mapping[str, int]

    async def sweep(self) -> Sequence[date]:
        """Drop what may go. Returns the days that are gone. Raises Unavailable."""
        rows = await self.db.look(DAYS, min(self.days.values()))
        return [row["day"] for row in rows if await self._drop(row["day"])]

    async def _drop(self, day: date) -> bool:
        why = await self._unkept(day, self.blobs) if self.blobs else None
        if why is None:
            async with self.db.own(WORKERS) as tx:
                why = await tx.fetchval(DROP, day, json.dumps(self.days))
        if why is None:
            log().info("a day of the log is dropped", day=str(day))
        else:
            log().warning("a day of the log stays", day=str(day), why=why)
        return why is None

    async def _unkept(self, day: date, blobs: Blobs) -> str | None:
        """Why the archive does not stand for the day yet."""
        for topic in TOPICS.values():
            for part in range(topic.parts):
                if rows := await self.db.look(UNARCHIVED, topic.name, part, day):
                    return f"{topic.name} {part} is not archived from {rows[0]['offset']} on"
        rows = await self.db.look(OBJECTS, day)
        for (tenant, name), objects in groupby(rows, key=lambda row: (row["tenant"], row["topic"])):
            there = await blobs.list(f"{tenant}/{name}/{day:%Y/%m/%d}")
            for row in objects:
                if there.get(row["object"]) != row["bytes"]:
                    return f"the archive has lost {row['object']}"
        return None
