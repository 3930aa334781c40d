"""Replay: events of a time are put to a group once more. What it has handled besides them is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.common.caller import WORKERS
from services.common.consumer import marks
from services.common.db import Database
from services.common.log.log import Log, Place

MOST = 1000

FORGET = 'DELETE FROM soma.retries WHERE "group" = $1 AND id = ANY ($2::uuid[])'


@dataclass(frozen=True, slots=True)
class Wish:
    """Events of a topic, of one tenant or of all, from a time up to another."""

    group: str
    topic: str
    since: datetime
    until: datetime
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is read again of a partition: of all from `first` up to `over`, those below `end` may be meant."""

    place: Place
    first: int
    end: int
    over: int


async def replay(db: Database, log: Log, wish: Wish) -> int:
    """How many events will come again. A group that is new stands where they begin. One that exists goes back to them:
    it gets them in their order before it goes on with what it has not seen, and everything else that it reads again
    keeps its mark, so that no handler sees it. It may be running meanwhile, and the replay may be repeated."""
    stretches = await stretches_of(log, wish)
    count = 0
    for stretch in stretches:
        count += await open_up(db, log, wish, stretch)
    if stretches:
        await log.stand(wish.group, {stretch.place: stretch.first for stretch in stretches})
    return count


async def stretches_of(log: Log, wish: Wish) -> Sequence[Stretch]:
    """What is behind the group of the partitions; of a group that is new all of the time."""
    standing = await log.standing(wish.group)
    starts, ends = await log.at(wish.topic, wish.since), await log.at(wish.topic, wish.until)
    begins = {place: first for place, (first, _) in (await log.ends(wish.topic)).items()}
    is_new = not any(topic == wish.topic for topic, _ in standing)
    stretches = []
    for place, first in starts.items():
        over = ends[place] if is_new else standing.get(place, begins[place])
        if first < over or is_new:
            stretches.append(Stretch(place, first, ends[place], over))
    return stretches


async def open_up(db: Database, log: Log, wish: Wish, stretch: Stretch) -> int:
    """Take the marks, and the letters, of what is meant, and see to it that all else has a mark."""
    count, offset = 0, stretch.first
    while offset < stretch.over:
        entries = [entry for entry in await log.read(stretch.place, offset, MOST) if entry.offset < stretch.over]
        if not entries:
            break
        again, rest = list[UUID](), list[UUID]()
        for entry in entries:
            meant = entry.offset < stretch.end and wish.tenant in ("", entry.tenant)
            (again if meant else rest).append(entry.id)
        async with db.own(WORKERS) as tx:
            await marks.clear(tx, wish.group, again)
            await tx.execute(FORGET, wish.group, again)
            await marks.mark(tx, wish.group, rest)
        count, offset = count + len(again), entries[-1].offset + 1
    return count
