"""The archiver: every event of the log into objects (segments.py says how they look), and only then is it done.

A group's offset may only pass what was written and read back, which is an hour's worth at a time: so it reads for
itself, since the loop that all other consumers share is done with each batch before it reads the next. The rest is as
it is there: an event is marked as done in the transaction that holds the partition, and what is marked is passed over.

What it has read waits in memory, up to 64 MiB. An object is written when the partition's hour is over, or before that
when 8 MiB of it have come, when all memory is taken, or when its first event is older than the bound says; then the
hour has several. A repeat after a crash finds what it wrote and goes on behind it. Where an object holds anything else
than the log, or an event can be in no object, that partition alone stops and says so, until the worker is started anew;
nothing is ever overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import UUID

from services.common import crash
from services.common.background import pause_s
from services.common.blobs import open_blobs
from services.common.caller import TENANT, WORKERS
from services.common.clock import Clock, SystemClock
from services.common.consumer import marks
from services.common.db import Database, Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry, LeaseLost, Place, Reader
from services.common.log.topics import TOPICS
from services.common.telemetry import Sight, log
from services.workers.archive.archive import Archive, Kept
from services.workers.archive.segments import Broken, hour
from services.workers.archive.spool import Bounds, Spool
from services.workers.bench import Bench

GROUP = "archiver"
READ_AT_ONCE = 1000
GATHER_S = 1.0
TENANTS_AT_ONCE = 8
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

NOTE = """
INSERT INTO soma.archived (object, log, tenant, topic, part, hour, first, last, events, sha256, bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
"""


async def work(bench: Bench) -> None:
    if not bench.archive_url:
        log().warning("there is no archive: events are gone when their days in the log are over")
        await asyncio.Event().wait()
    archive = Archive(open_blobs(bench.archive_url), bench.log)
    bounds = Bounds(age=bench.archive_age)
    async with bench.log.reader(GROUP, list(TOPICS), gather_s=GATHER_S) as reader:
        await Archiver(bench.db, reader, archive, bench.sight, SystemClock(), bounds).run()


@dataclass(frozen=True, slots=True)
class Archiver:
    db: Database
    reader: Reader
    archive: Archive
    sight: Sight
    clock: Clock
    bounds: Bounds
    look_s: float = 1.0
    """How often it is looked for what is due."""
    spools: dict[Place, Spool] = field(default_factory=dict)
    stopped: dict[Place, datetime] = field(default_factory=dict)
    """Partitions that cannot go on, with the time of the first event that waits."""

    async def run(self) -> None:
        """Until cancelled. When the store or Postgres is away it waits, with what it has read."""
        failures = 0
        while True:
            try:
                await self.write(await self.read())
                failures = 0
            except Unavailable as away:
                failures += 1
                log().warning("the archive waits", why=away.message, failures=failures)
                await asyncio.sleep(pause_s(failures, PAUSE_S, LONGEST_PAUSE_S))
            self.tell()

    async def read(self) -> frozenset[Place]:
        """Read what came, as long as there is memory for it. Returns where it came."""
        if self.bytes >= self.bounds.all_bytes:
            return frozenset()
        runs = await self.reader.fetch(READ_AT_ONCE, self.look_s)
        for run in runs:
            if run[0].place not in self.stopped:
                self.spools.setdefault(run[0].place, Spool()).take(run)
        return frozenset(run[0].place for run in runs)

    async def write(self, came: frozenset[Place] = frozenset()) -> None:
        """Write all that is due. Raises Unavailable, with what is not written still there."""
        now = self.clock.now()
        for place, spool in list(self.spools.items()):
            while batch := spool.due(self.bounds, now, quiet=place not in came):
                await self._write(place, spool, batch)
        while self.bytes >= self.bounds.all_bytes:
            place, spool = max(self.spools.items(), key=lambda item: item[1].bytes)
            await self._write(place, spool, spool.front(self.bounds))

    @property
    def bytes(self) -> int:
        return sum(spool.bytes for spool in self.spools.values())

    def tell(self) -> None:
        waiting = [spool.entries[0].time for spool in self.spools.values() if spool.entries]
        oldest = min((*waiting, *self.stopped.values()), default=None)
        self.sight.archive_age.set((self.clock.now() - oldest).total_seconds() if oldest else 0)
        self.sight.archive_stopped.set(len(self.stopped))

    async def _write(self, place: Place, spool: Spool, batch: Sequence[Entry]) -> None:
        try:
            kept = await self._keep(await self._fresh(batch))
            async with self.db.own(WORKERS) as tx:
                await self.reader.hold(tx, batch)
                await note(tx, self.archive.log.name, kept)
                crash.here("archiver: noted")
            crash.here("archiver: held")
            await self.reader.commit(batch)
            crash.here("archiver: committed")
        except LeaseLost:
            await self.reader.rewind(place)
            spool.drop(len(spool.entries))
        except Unavailable:
            raise
        except Exception as fault:
            said = "the archive is not what was written" if isinstance(fault, Broken) else "events cannot be archived"
            log().error(said, why=f"{type(fault).__name__}: {fault}", topic=place[0], part=place[1])
            self.stopped[place] = batch[0].time
            spool.drop(len(spool.entries))
        else:
            spool.drop(len(batch))
            for one in kept:
                self.sight.archive_objects.labels(place[0]).inc()
                log().info("archived", object=one.name, events=len(one.entries), bytes=one.size)

    async def _fresh(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        """What is not done yet, each event once."""
        events: dict[UUID, Entry] = {}
        for entry in batch:
            events.setdefault(entry.id, entry)
        for done in await marks.marked(self.db, GROUP, list(events)):
            del events[done]
        return list(events.values())

    async def _keep(self, entries: Sequence[Entry]) -> Sequence[Kept]:
        """Each tenant's into its own objects, several tenants at once."""
        gate = asyncio.Semaphore(TENANTS_AT_ONCE)

        async def keep(tenant: Sequence[Entry]) -> Sequence[Kept]:
            check(tenant[0])
            async with gate:
                return await self.archive.keep(tenant)

        ended = await asyncio.gather(*map(keep, by_tenant(entries).values()), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one
        return [kept for some in ended if not isinstance(some, BaseException) for kept in some]


def check(entry: Entry) -> None:
    """A tenant becomes a part of names: ValueError for what is no tenant's name."""
    if not TENANT.fullmatch(entry.tenant):
        raise ValueError(f"{entry.tenant!r}, at offset {entry.offset}, is no tenant's name")


async def note(tx: Transaction, log_name: str, kept: Sequence[Kept]) -> None:
    """Write down what is in the archive, and that its events are done."""
    for one in kept:
        first, last = one.entries[0], one.entries[-1]
        await tx.execute(
            NOTE, one.name, log_name, first.tenant, first.topic, first.part, hour(first), first.offset, last.offset,
            len(one.entries), one.sha256, one.size,
        )  # fmt: skip
    await marks.mark(tx, GROUP, [entry.id for one in kept for entry in one.entries])


def by_tenant(entries: Sequence[Entry]) -> Mapping[str, Sequence[Entry]]:
    ordered = sorted(entries, key=lambda entry: entry.tenant)  # stable: offsets stay in order
    return {tenant: list(run) for tenant, run in groupby(ordered, key=lambda entry: entry.tenant)}
