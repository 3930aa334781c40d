"""What of the log should be in the archive and is in none of its objects."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TypeAlias

from services.common.consumer import marks
from services.common.db import Database
from services.common.log.log import Log, Place
from services.workers.archive.archiver import GROUP as ARCHIVER
from services.workers.reconcile.findings import UNARCHIVED, Finding

Spans: TypeAlias = Sequence[tuple[int, int]]
"""Offsets from the first to the last, in order."""

SEGMENTS = """
SELECT topic, part, first, last FROM soma.archived
WHERE log = $1 AND tenant = $2 AND topic = ANY ($3) AND hour >= date_trunc('hour', $4::timestamptz)
ORDER BY topic, part, first
"""
MOST = 100
"""So many offsets of a partition are looked at one by one: repeats of what is in the archive are in no object."""
OTHER_LOG = "SELECT max(hour) + interval '1 hour' AS until FROM soma.archived WHERE log <> $1"


async def other_log(db: Database, log_name: str) -> datetime | None:
    """Until when another engine kept the log, as far as the archive knows: what was told then is not in this one."""
    rows = await db.look(OTHER_LOG, log_name)
    until: datetime | None = rows[0]["until"]
    return until


async def find(
    db: Database, log: Log, tenant: str, offsets: Mapping[Place, Sequence[int]], since: datetime
) -> Sequence[Finding]:
    """`offsets` are the tenant's that are old enough to be in the archive by now."""
    rows = await db.look(SEGMENTS, log.name, tenant, sorted({topic for topic, _ in offsets}), since)
    segments = {
        place: [(row["first"], row["last"]) for row in some]
        for place, some in groupby(rows, key=lambda row: (row["topic"], row["part"]))
    }
    found = list[Finding]()
    for place, all_ in sorted(offsets.items()):
        if left := await unmarked(db, log, place, uncovered(all_, segments.get(place, ()))):
            says = f"{len(left)} of its events from offset {left[0]} to {left[-1]} are not in the archive."
            found.append(Finding(tenant, UNARCHIVED, f"{place[0]}/{place[1]}", says))
    return found


def uncovered(offsets: Sequence[int], segments: Spans) -> Sequence[int]:
    """Segments do not overlap, but for repeats. Pure."""
    reach, ends = list[int](), -1
    for _, last in segments:
        ends = max(ends, last)
        reach.append(ends)
    firsts = [first for first, _ in segments]

    def is_covered(offset: int) -> bool:
        n = bisect_right(firsts, offset)
        return n > 0 and reach[n - 1] >= offset

    return [offset for offset in sorted(offsets) if not is_covered(offset)]


async def unmarked(db: Database, log: Log, place: Place, offsets: Sequence[int]) -> Sequence[int]:
    """Without those whose event the archiver has under another offset."""
    if not 0 < len(offsets) <= MOST:
        return offsets
    ids = {entry.id: offset for offset in offsets for entry in await log.read(place, offset, 1)}
    done = await marks.marked(db, ARCHIVER, list(ids))
    return sorted(offset for id, offset in ids.items() if id not in done)
