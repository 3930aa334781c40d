"""What the archiver has read and not written yet, and when it is time to write. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.common.log.log import Entry
from services.workers.archive.segments import hour

ENTRY_BYTES = 1024
"""What an entry takes in memory besides its payload, generously."""
NEAR = timedelta(seconds=5)
LATE = timedelta(seconds=15)
"""An entry of an hour is seen at most so long after its end: the relay's transaction takes no longer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    batch_bytes: int = 8 * 1024 * 1024
    """A batch of one partition is written when it is that large."""
    all_bytes: int = 64 * 1024 * 1024
    """Of all partitions; then the largest is written, and nothing is read until it is."""
    age: timedelta = timedelta(hours=1)
    """What is older is written without waiting for the end of the hour."""


@dataclass(slots=True)
class Spool:
    """Entries of one partition, in order."""

    entries: list[Entry] = field(default_factory=list)
    bytes: int = 0

    def take(self, run: Sequence[Entry]) -> None:
        """Add what follows. A run that does not follow was given out again: it takes the place of all there is."""
        if self.entries and run[0].offset <= self.entries[-1].offset:
            self.drop(len(self.entries))
        self.entries.extend(run)
        self.bytes += sum(weight(entry) for entry in run)

    def drop(self, count: int) -> None:
        self.bytes -= sum(weight(entry) for entry in self.entries[:count])
        del self.entries[:count]

    def due(self, bounds: Bounds, now: datetime, *, quiet: bool) -> Sequence[Entry]:
        """What is to be written now, of one hour; nothing while more may come. `quiet`: nothing came just now."""
        if not self.entries:
            return ()
        first, last = self.entries[0], self.entries[-1]
        if hour(first) != hour(last) or self.bytes >= bounds.batch_bytes:
            return self.front(bounds)
        is_near = quiet or now - last.time < NEAR
        is_over = now >= hour(first) + timedelta(hours=1) + LATE or now - first.time >= bounds.age
        return tuple(self.entries) if is_near and is_over else ()

    def front(self, bounds: Bounds) -> Sequence[Entry]:
        """The longest beginning that is of one hour and in bounds."""
        size = 0
        for count, entry in enumerate(self.entries):
            if size >= bounds.batch_bytes or hour(entry) != hour(self.entries[0]):
                return tuple(self.entries[:count])
            size += weight(entry)
        return tuple(self.entries)


def weight(entry: Entry) -> int:
    return len(entry.payload) + ENTRY_BYTES
