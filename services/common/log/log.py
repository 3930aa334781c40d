"""The event log: what it gives its readers, whichever engine keeps it. `postgres` and `kafka` are the engines;
what goes in comes from the outbox, by the relay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from services.common.db import Transaction

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""
RUN_BYTES = 4 * 1024 * 1024
"""A run of entries ends with the one that passes this, whatever the number."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event in the log. Entries of one key are in one partition, in the order in which they were committed.

    A struct, since readers make them by the ten thousand a second: a frozen dataclass takes ten times as long to make.
    """

    topic: str
    part: int
    offset: int
    id: UUID
    tenant: str
    key: str
    type: str
    payload: bytes
    """Canonical JSON, to the byte as it was appended."""
    traceparent: str
    time: datetime
    """When it came into the log: never earlier than the entry before it."""

    @property
    def place(self) -> Place:
        return self.topic, self.part


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of the outbox: the rows whose slot, modulo `of`, is `number`. All rows of a key are in one shard."""

    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of a batch, by topic."""

    moved: Mapping[str, int]
    aside: Mapping[str, int]
    """Rows that no log could ever take."""

    @property
    def count(self) -> int:
        return sum(self.moved.values()) + sum(self.aside.values())


class Unpublishable(Exception):  # noqa: N818 - what a row is
    """The engine refuses a row of the batch for good, whichever it is. Nothing of the transaction may be committed."""


class LeaseLost(Exception):  # noqa: N818 - what has happened
    """Another reader of the group has this partition by now: what was done in the transaction must not count."""


class Reader(Protocol):
    """One member of a group. It reads the partitions that it holds, each from where the group stands."""

    async def fetch(self, most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        """Entries that wait, as one run a partition, in order, each from the first that is not committed or was not
        given out yet. At most `most` in all. Empty when none came in time. A partition that was lost and found again
        begins anew at what is committed."""

    async def hold(self, tx: Transaction, run: Sequence[Entry]) -> None:
        """In the handler's transaction, before it commits: everything up to the run's end is done. Raises LeaseLost.
        An engine that keeps offsets elsewhere says only what this process knows."""

    async def commit(self, run: Sequence[Entry]) -> None:
        """After that transaction: the group stands behind the run. LeaseLost is no fault here: it is read again."""

    async def rewind(self, place: Place) -> None:
        """Give the partition out again from what is committed."""


class Log(Protocol):
    """An engine. Offsets of a partition begin anywhere and rise; they may have gaps."""

    @property
    def name(self) -> str:
        """Of the engine: its offsets are no other's."""

    async def make_topics(self) -> Sequence[str]:
        """Make what is missing, with the partitions and the retention of `topics.TOPICS`. Returns what was made. The
        relay calls it before it begins, and every hour. Raises Unavailable."""

    async def drain(self, tx: Transaction, shard: Shard, most: int) -> Drained:
        """For the relay, which leads the shard for as long as `tx` lasts: move the first rows of the shard's share of
        soma.outbox, at most so many, in order of seq, into the log, each into partition `slot % parts` of its topic,
        and delete them in `tx`. When it returns they are in the log as far as `tx` commits, or already: repeats are
        possible, loss is not. Rows whose topic is not known go aside (`relaying.set_aside`).

        Ends within `relaying.BATCH_S`, when Postgres ends the transaction. Raises Unpublishable when a row can never
        go in: the relay then tries with fewer until it has found that one, and sets it aside. Raises Unavailable when
        the engine is away: the relay tries again.
        """

    def reader(
        self, group: str, topics: Sequence[str], *, gather_s: float = 0.0
    ) -> AbstractAsyncContextManager[Reader]:
        """Join the group. Partitions are shared out among its members; one that is gone for 10 s loses its own. A group
        that is new stands at the beginning. A reader that has read all there was lets what comes next gather for
        `gather_s`; one that is behind does not wait."""

    async def ends(self, topic: str) -> Mapping[Place, tuple[int, int]]:
        """The first offset there is and the one after the last, for each partition."""

    async def at(self, topic: str, time: datetime) -> Mapping[Place, int]:
        """The first offset that came at this time or later; the end where none did."""

    async def standing(self, group: str) -> Mapping[Place, int]:
        """The offset after the last committed one, of each partition that the group has committed."""

    async def stand(self, group: str, places: Mapping[Place, int]) -> None:
        """Put a group somewhere else. Its readers go on from there; a running one notices within seconds."""

    async def groups(self) -> Sequence[str]:
        """Every group that has committed something."""

    async def read(self, place: Place, start: int, most: int) -> Sequence[Entry]:
        """Entries from an offset on, of no group."""
