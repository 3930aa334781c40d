"""One member of a group that reads the log in Postgres: what it holds, what it gave out, what is done."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from services.common.background import alongside
from services.common.caller import WORKERS
from services.common.db import Database, Record, Transaction
from services.common.ears import Ear
from services.common.errors import Unavailable
from services.common.log.gathering import Gathering
from services.common.log.log import RUN_BYTES, Entry, LeaseLost, Place
from services.common.log.postgres import leases
from services.common.log.postgres.leases import Lease, Seat

LOOK_S = 1.0
"""How long nobody needs to tell of news."""
LEAVE_S = 2.0

COLUMNS = 'topic, part, "offset", id, tenant, key, type, payload, traceparent, time'
HEADS = """
SELECT topic, part, next FROM soma.log_heads JOIN unnest($1::text[], $2::int[]) AS held (topic, part)
USING (topic, part)
"""
WAITING = f"""
SELECT {COLUMNS} FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::int[])
    AS wish (in_topic, in_part, start, since, most),
LATERAL (
    SELECT *, sum(size) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) - size AS before FROM (
        SELECT size, {COLUMNS} FROM soma.log
        WHERE topic = in_topic AND part = in_part AND "offset" >= start AND time >= since
        ORDER BY "offset" LIMIT most) AS next) AS entry
WHERE before < {RUN_BYTES}
"""  # noqa: S608 - constants


@dataclass(slots=True)
class Held:
    """A partition in hand: where the group stands, where to read on, and what was given out in between."""

    stands: int
    next: int
    since: datetime
    term: int
    leaving: bool = False
    """It belongs to another as soon as nothing of it is out."""
    out: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, lease: Lease) -> Held:
        return cls(lease.next, lease.next, lease.since, lease.term)

    def give(self, run: Sequence[Entry]) -> None:
        self.out.extend(entry.offset for entry in run)
        self.next, self.since = run[-1].offset + 1, run[-1].time

    def before(self, entry: Entry) -> int | None:
        """Where the group must stand for this entry to be the next. None: it is not out, or not any more."""
        n = bisect_left(self.out, entry.offset)
        if n == len(self.out) or self.out[n] != entry.offset:
            return None
        return self.out[n - 1] + 1 if n else self.stands

    def done(self, last: Entry) -> None:
        del self.out[: bisect_right(self.out, last.offset)]
        self.stands = last.offset + 1


@dataclass(slots=True)
class Member:
    """A reader of `common/log`. `keep` must run beside it."""

    db: Database
    seat: Seat
    news: Ear
    changes: Ear
    gathering: Gathering = field(default_factory=Gathering)
    held: dict[Place, Held] = field(default_factory=dict)
    keeps_up_until: float = 0.0
    """By time.monotonic(): so long nobody asks where the partitions end."""
    has_all: bool = False
    """Nothing was left when it last looked: it waits for news before it looks again."""

    async def fetch(self, most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        end = time.monotonic() + within_s
        if not await self.gathering.over(end):
            return ()
        if self.has_all:
            await self.news.wait(min(max(0.0, end - time.monotonic()), LOOK_S))
        while True:
            self.news.forget()
            if runs := await self._take(most):
                if self.has_all:
                    self.gathering.begin()
                return runs
            if (left := end - time.monotonic()) <= 0:
                return ()
            await self.news.wait(min(left, LOOK_S))

    async def hold(self, tx: Transaction, run: Sequence[Entry]) -> None:
        held = self.held.get(run[0].place)
        stands = held.before(run[0]) if held else None
        if held is None or stands is None:
            raise LeaseLost(f"{run[0].place} is not in hand, or was begun anew")
        if not await leases.hold(tx, self.seat, held.term, stands, run[-1]):
            raise LeaseLost(f"{run[0].place} is another's, or {self.seat.group} does not stand at {stands}")

    async def commit(self, run: Sequence[Entry]) -> None:
        held = self.held.get(run[0].place)
        if held and held.before(run[0]) is not None:
            held.done(run[-1])
            if held.leaving and not held.out:
                self.changes.ring()

    async def rewind(self, place: Place) -> None:
        before = self.held.get(place)
        lease = await leases.found(self.db, self.seat, place)
        if before is not self.held.get(place):
            return
        if lease:
            self.held[place] = Held.of(lease)
            self.news.ring()
        elif before:
            del self.held[place]

    async def keep(self) -> None:
        """Renew and share, until cancelled."""
        while True:
            self.changes.forget()
            pause_s = self.seat.lease_s / 3
            try:
                await self.take_turn()
            except Unavailable:
                pause_s = min(pause_s, LOOK_S)
            await self.changes.wait(pause_s)

    async def take_turn(self) -> None:
        """Renew what is held, give up what is above the share, take what is free."""
        async with self.db.own(WORKERS) as tx:
            await leases.sit_down(tx, self.seat)
            now = list(await leases.renewed(tx, self.seat))
            share = await leases.share(tx, self.seat)
            idle = [lease.place for lease in now if not self._is_out(lease)]
            given = idle[: max(0, len(now) - share)]
            await leases.give_up(tx, self.seat, given)
            now = [lease for lease in now if lease.place not in given]
            if len(now) < share:
                now += await leases.claimed(tx, self.seat, share - len(now))
        self._settle(now, share)

    async def leave(self) -> None:
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S), self.db.own(WORKERS) as tx:
                await leases.stand_up(tx, self.seat)

    def _settle(self, now: Sequence[Lease], share: int) -> None:
        """Begin anew where the term is new; go on elsewhere."""
        known, self.held = self.held, {}
        for place, lease in ((lease.place, lease) for lease in now):
            held = known.get(place)
            self.held[place] = held if held and held.term == lease.term else Held.of(lease)
        for n, held in enumerate(self.held.values()):
            held.leaving = n >= share
        self.news.ring()

    def _is_out(self, lease: Lease) -> bool:
        held = self.held.get(lease.place)
        return held is not None and held.term == lease.term and bool(held.out)

    async def _take(self, most: int) -> Sequence[Sequence[Entry]]:
        """Who is behind shares `most` out by what waits where; who keeps up takes what comes, wherever."""
        ours = {place: held for place, held in self.held.items() if not held.leaving}
        even = most // len(ours) if ours else 0
        if even and time.monotonic() < self.keeps_up_until:
            runs = await self._give(ours, dict.fromkeys(ours, even), {})
            self.has_all = not any(len(run) == even or is_cut(run) for run in runs)
            if not self.has_all:
                self.keeps_up_until = 0.0
            return runs
        ends = await heads(self.db, list(ours))
        quotas = shared_out({place: end - ours[place].next for place, end in ends.items()}, most)
        asks_all = all(ours[place].next + quotas.get(place, 0) >= end for place, end in ends.items())
        runs = await self._give(ours, quotas, ends)
        self.has_all = asks_all and not any(map(is_cut, runs))
        if self.has_all:
            self.keeps_up_until = time.monotonic() + LOOK_S
        return runs

    async def _give(
        self, ours: Mapping[Place, Held], quotas: Mapping[Place, int], ends: Mapping[Place, int]
    ) -> Sequence[Sequence[Entry]]:
        wishes = [(place, ours[place].next, ours[place].since, quota) for place, quota in quotas.items()]
        found = await waiting(self.db, wishes)
        runs = []
        for place, start, _, _ in wishes:
            held = ours[place]
            if self.held.get(place) is not held or held.next != start:
                continue  # lost, or begun anew, in the meantime
            if run := found.get(place):
                held.give(run)
                runs.append(run)
            elif place in ends:
                held.next = ends[place]  # retention has dropped what was there
        return runs


@asynccontextmanager
async def join(db: Database, seat: Seat, news: Ear, changes: Ear, gathering: Gathering) -> AsyncIterator[Member]:
    """A member that holds its share. It leaves what it holds to the others at the end."""
    member = Member(db, seat, news, changes, gathering)
    await member.take_turn()
    try:
        async with alongside(member.keep(), name=f"leases of {seat.group}"):
            yield member
    finally:
        await member.leave()


def is_cut(run: Sequence[Entry]) -> bool:
    """Whether the run may have ended by its size."""
    return sum(len(entry.payload) for entry in run) >= RUN_BYTES


async def heads(db: Database, places: Sequence[Place]) -> Mapping[Place, int]:
    """The offset after the last entry of each."""
    if not places:
        return {}
    return {(row["topic"], row["part"]): row["next"] for row in await db.look(HEADS, *leases.columns(places))}


def shared_out(waiting: Mapping[Place, int], most: int) -> Mapping[Place, int]:
    """How many to take of each place that has some: evenly, and what one does not need is the others'."""
    quotas, left = {}, most
    hungry = sorted((n, place) for place, n in waiting.items() if n > 0)
    for index, (n, place) in enumerate(hungry):
        quotas[place] = min(n, left // (len(hungry) - index))
        left -= quotas[place]
    return {place: quota for place, quota in quotas.items() if quota}


async def waiting(db: Database, wishes: Sequence[tuple[Place, int, datetime, int]]) -> Mapping[Place, Sequence[Entry]]:
    """For each place so many entries from an offset and a time on, in order."""
    if not wishes:
        return {}
    places = leases.columns([place for place, *_ in wishes])
    rows = await db.look(WAITING, *places, *(list(column) for column in list(zip(*wishes, strict=True))[1:]))
    entries = sorted(map(entry, rows), key=lambda e: (e.topic, e.part, e.offset))
    return {place: list(run) for place, run in groupby(entries, key=lambda e: e.place)}


def entry(row: Record) -> Entry:
    topic, part, offset, id, tenant, key, kind, payload, traceparent, time = row
    return Entry(topic, part, offset, id, tenant, key, kind, payload.encode(), traceparent, time)
