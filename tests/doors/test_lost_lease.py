"""A partition that is lost in mid-batch, as Kafka loses them: where the group stands is kept apart from the work, and
what comes back begins at what was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from services.common.clock import SystemClock
from services.common.db import Transaction
from services.common.log.log import Entry, LeaseLost, Place, Reader
from services.common.outbox import row
from tests.consuming import TOPIC, Deed, Seeing, open_world, renamed
from tests.stores import running_postgres

PLACE = (TOPIC, 0)


@dataclass
class Losing:
    """A log of one partition, given out event by event, whose reader has lost it once when it has done the first."""

    entries: Sequence[Entry]
    next: int = 0
    committed: int = 0
    losses: int = 1
    all_out: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def reader(self, _group: str, _topics: Sequence[str], *, gather_s: float = 0.0) -> AsyncIterator[Reader]:
        yield self

    async def fetch(self, _most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        out, self.next = self.entries[self.next : self.next + 1], min(self.next + 1, len(self.entries))
        if not out:
            self.all_out.set()
            await asyncio.sleep(within_s)
        return [out] if out else []

    async def hold(self, _tx: Transaction, _run: Sequence[Entry]) -> None:
        self.losses -= 1
        if self.losses >= 0:
            raise LeaseLost

    async def commit(self, run: Sequence[Entry]) -> None:
        self.committed = run[-1].offset + 1

    async def rewind(self, _place: Place) -> None:
        self.next = self.committed

    async def ends(self, _topic: str) -> Mapping[Place, tuple[int, int]]:
        return {PLACE: (0, len(self.entries))}

    async def standing(self, _group: str) -> Mapping[Place, int]:
        return {PLACE: self.committed}


async def test_what_was_read_behind_a_run_whose_partition_was_lost_is_not_worked_before_it(tmp_path: Path) -> None:
    log = Losing([entry(offset) for offset in range(4)])

    async def wait(_tx: Transaction, _entries: Sequence[Entry]) -> None:
        await log.all_out.wait()

    async with running_postgres(tmp_path / "postgres") as url, open_world(url, tmp_path / "keys") as world:
        world = renamed(world)
        seeing = Seeing(world.group, before=wait)
        consumer = replace(world.consumer(seeing, batch=1), log=log)  # type: ignore[arg-type] # what a consumer asks of a log
        async with world.running(consumer):
            await world.until_seen("0", "1", "2", "3")
        assert await world.seen() == ["0", "1", "2", "3"]
    assert log.committed == 4


def entry(offset: int) -> Entry:
    told = row(Deed("p_ada", str(offset)).event(), "")
    return Entry(
        TOPIC, 0, offset, UUID(told.id), told.tenant, told.key, told.type, told.payload.encode(), "",
        SystemClock().now(),
    )  # fmt: skip
