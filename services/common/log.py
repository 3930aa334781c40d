"""The event log: what it gives its readers, whichever engine keeps it. `log_postgres` and `log_kafka` are the engines;
what goes in comes from the outbox, by the relay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

from services.common.db import Transaction
from services.common.outbox import Row

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in the log. Entries of one key are in one partition, in the order in which they were committed."""

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
        An engine that keeps offsets elsewhere does nothing here."""

    async def commit(self, run: Sequence[Entry]) -> None:
        """After that transaction: the group stands behind the run. LeaseLost is no fault here: it is read again."""

    async def rewind(self, place: Place) -> None:
        """Give the partition out again from what is committed."""


class Log(Protocol):
    """An engine. Offsets of a partition begin anywhere and rise; they may have gaps."""

    async def make_topics(self) -> Sequence[str]:
        """Make what is missing, with the partitions and the retention of `topics.TOPICS`. Returns what was made."""

    async def publish(self, rows: Sequence[tuple[Row, int]], tx: Transaction) -> None:
        """For the relay: rows with their slots, in order. When it returns they are in the log as far as `tx` commits,
        or already: repeats are possible, loss is not."""

    def reader(self, group: str, topics: Sequence[str]) -> AbstractAsyncContextManager[Reader]:
        """Join the group. Partitions are shared out among its members; one that is gone for 10 s loses its own. A group
        that is new stands at the beginning."""

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
