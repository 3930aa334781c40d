"""What the log says of tenants' turns, panes, decisions and audit events, as far back as it is asked: ids and times."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.common.db import Database
from services.common.log.log import Entry, Log, Place

TOPICS = ("agent.messages", "agent.routing", "agent.audit")
READ_AT_ONCE = 500
MOST = 1_000_000
"""Events that are read in one pass, of memory."""
MOST_WAITING = 20_000
"""Rows of the outbox. With more of them nothing can be said."""
SUBJECTS = ("pane", "decision", "turn", "conversation")
"""What an event is about: the first of these that it names."""
STRANGE = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What reading raises for an event that is of another shape than the rooms'."""

WAITING = """
SELECT aggregatetype AS topic, tenant, id, payload FROM soma.outbox WHERE aggregatetype = ANY ($1)
UNION ALL
SELECT aggregatetype, tenant, id, payload FROM soma.outbox_aside WHERE aggregatetype = ANY ($1)
LIMIT $2
"""


class TooMuchWaits(Exception):  # noqa: N818 - what has happened
    """The relay is so far behind that nobody can say what is missing in the log."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Of one tenant."""

    times: dict[str, dict[UUID, datetime]] = field(default_factory=lambda: defaultdict(dict))
    """By type: what it was about, and when it last happened, by the event itself."""
    conversations: dict[UUID, UUID] = field(default_factory=dict)
    """Of each turn that was heard of."""
    audited: dict[UUID, datetime] = field(default_factory=dict)
    """Audit events that are in the log, and since when."""
    doubled: set[UUID] = field(default_factory=set)
    """Audit events that are in it twice, with different bytes."""
    hashes: dict[UUID, int] = field(default_factory=dict)
    offsets: dict[Place, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    """Of what is old enough to be in the archive."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Raises one of STRANGE for an event of another shape, and has heard nothing of it then."""
        about = next((event[name] for name in SUBJECTS if event.get(name)), "")
        if about and (id := id_of(about)):
            conversation = id_of(event["conversation"]) if "/turns/" in about else None
            kind, time = self.times[event["type"]], moment(event["time"])
            kind[id] = max(time, kind.get(id, time))
            if conversation:
                self.conversations[id] = conversation

    def take_audit(self, id: UUID, time: datetime | None, payload: bytes) -> None:
        """`time` is None for what is on its way into the log."""
        if self.hashes.setdefault(id, hash(payload)) != hash(payload):
            self.doubled.add(id)
        if time:
            self.audited.setdefault(id, time)

    def has(self, kind: str, id: UUID) -> bool:
        return id in self.times.get(kind, {})

    def last(self, kinds: Sequence[str], id: UUID) -> datetime | None:
        return max((self.times[kind][id] for kind in kinds if self.has(kind, id)), default=None)


@dataclass(slots=True)
class Told:
    """The log from some time on, read once for all tenants."""

    db: Database
    log: Log
    tenant: str
    """Of this one alone; empty: of all."""
    since: datetime
    archived_by: datetime | None
    """What is older must be in the archive. None: nothing must."""
    tenants: dict[str, Heard] = field(default_factory=lambda: defaultdict(Heard), init=False)
    unread: dict[str, set[UUID]] = field(default_factory=lambda: defaultdict(set), init=False)
    """Events that cannot be read, by tenant."""
    _next: dict[Place, int] = field(default_factory=dict, init=False)

    async def read_on(self) -> None:
        """Hear what there is by now, on its way into the log or in it. Raises TooMuchWaits, Unavailable."""
        rows = await self.db.look(WAITING, list(TOPICS), MOST_WAITING + 1)
        if len(rows) > MOST_WAITING:
            raise TooMuchWaits
        for row in rows:  # first these: what leaves the outbox is in the log
            self._take(row["topic"], row["tenant"], row["id"], None, row["payload"].encode())
        for topic in TOPICS:
            for place, (_, end) in (await self.log.ends(topic)).items():
                await self._read(place, end)

    async def begin(self) -> None:
        """Find where to begin. The span is made shorter when more events are in it than memory may take."""
        self.since = max(self.since, await self._oldest())
        now = self.db.clock.now()
        while True:
            starts = {place: at for topic in TOPICS for place, at in (await self.log.at(topic, self.since)).items()}
            ends = {place: end for topic in TOPICS for place, (_, end) in (await self.log.ends(topic)).items()}
            if sum(end - starts.get(place, end) for place, end in ends.items()) <= MOST:
                break
            self.since += (now - self.since) / 2
        self._next = {place: starts.get(place, end) for place, end in ends.items()}

    async def _oldest(self) -> datetime:
        """When the oldest event came that is still there: what was told before is not to be found."""
        found = [self.db.clock.now()]
        for topic in TOPICS:
            for place, (first, end) in (await self.log.ends(topic)).items():
                if first < end:
                    found += [entry.time for entry in await self.log.read(place, first, 1)]
        return min(found) - timedelta(seconds=1)  # it had a way to go

    async def _read(self, place: Place, end: int) -> None:
        start = self._next.get(place, 0)
        while start < end and (page := await self.log.read(place, start, READ_AT_ONCE)):
            for entry in page:
                self._hear(entry)
            start = page[-1].offset + 1
        self._next[place] = max(start, self._next.get(place, 0))

    def _hear(self, entry: Entry) -> None:
        self._take(entry.topic, entry.tenant, entry.id, entry.time, entry.payload)
        if self.archived_by and entry.time < self.archived_by and self.tenant in ("", entry.tenant):
            self.tenants[entry.tenant].offsets[entry.place].append(entry.offset)

    def _take(self, topic: str, tenant: str, id: UUID, time: datetime | None, payload: bytes) -> None:
        if self.tenant not in ("", tenant):
            return
        if topic == "agent.audit":
            self.tenants[tenant].take_audit(id, time, payload)
        else:
            try:
                self.tenants[tenant].take(json.loads(payload))
            except STRANGE:
                self.unread[tenant].add(id)


def moment(text: str) -> datetime:
    """ValueError when it does not say where on earth."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return time


def id_of(name: str) -> UUID | None:
    """The last part of a resource name."""
    try:
        return UUID(name.rpartition("/")[2])
    except ValueError:
        return None
