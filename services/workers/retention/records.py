"""Retention in an engine that lets go of single records: each partition up to where all that is old is read by every
group, and is in objects of the archive that are still there, of their size. Without an archive by age and groups alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Protocol, TypeAlias, runtime_checkable

from services.common.blobs import Blobs
from services.common.clock import Clock
from services.common.db import Database
from services.common.log.log import Log, Place
from services.common.telemetry import log
from services.workers.archive.archiver import GROUP as ARCHIVER

Readers: TypeAlias = Mapping[str, Mapping[Place, int]]
"""Where each group stands."""

OBJECTS = """
SELECT object, bytes, tenant, hour FROM soma.archived
WHERE log = $1 AND topic = $2 AND part = $3 AND first < $5 AND last >= $4 ORDER BY tenant, hour
"""


@runtime_checkable
class Trimmed(Log, Protocol):
    """A log that lets go of single records."""

    async def trim(self, starts: Mapping[Place, int]) -> None:
        """Let go of what is before these offsets. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Records:
    db: Database
    log: Trimmed
    blobs: Blobs | None
    """None: there is no archive."""
    days: Mapping[str, int]
    clock: Clock

    async def sweep(self) -> Mapping[Place, int]:
        """Let go of what may go. Returns where the log of these partitions begins now. Raises Unavailable."""
        readers = {group: await self.log.standing(group) for group in await self.log.groups()}
        starts = dict[Place, int]()
        for topic, days in self.days.items():
            old = await self.log.at(topic, self.clock.now() - timedelta(days=days))
            for place, (first, _) in (await self.log.ends(topic)).items():
                if first < old[place] and (start := await self._start(place, first, old[place], readers)) > first:
                    starts[place] = start
        if starts:
            await self.log.trim(starts)
            log().info("old records have left the log", partitions=len(starts))
        return starts

    async def _start(self, place: Place, first: int, old: int, readers: Readers) -> int:
        """Where the partition may begin: behind what is old, as far as nobody needs it any more."""
        for group, stands in self._followers(place, first, readers).items():
            if stands < old:
                log().warning("old records stay", place=place, why=f"{group} has read up to {stands} of {old}")
                old = stands
        if lost := await self._lost(place, first, old):
            log().error("old records stay", place=place, why=f"the archive has lost {lost}")
            return first
        return old

    def _followers(self, place: Place, first: int, readers: Readers) -> Mapping[str, int]:
        """Where each group that follows the topic stands in the partition; the archiver follows all of them."""
        topic = place[0]
        following = {group for group, places in readers.items() if any(name == topic for name, _ in places)}
        if self.blobs:
            following.add(ARCHIVER)
        return {group: readers.get(group, {}).get(place, first) for group in sorted(following)}

    async def _lost(self, place: Place, first: int, end: int) -> str | None:
        """An object of these records that is not there any more, or of another size."""
        if self.blobs is None:
            return None
        rows = await self.db.look(OBJECTS, self.log.name, *place, first, end)
        for (tenant, day), objects in groupby(rows, key=lambda row: (row["tenant"], f"{row['hour']:%Y/%m/%d}")):
            there = await self.blobs.list(f"{tenant}/{place[0]}/{day}")
            for row in objects:
                if there.get(row["object"]) != row["bytes"]:
                    return str(row["object"])
        return None
