"""One tenant's way into the books: what waits while a transaction is under way goes into the next one together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import TypeAlias

from services.common.errors import Exhausted, Invalid, Refusal
from services.router.budgets.entries import Admit, Entry
from services.router.budgets.ledger import Booked

MOST_AT_ONCE = 64
CROWD, PACE_S = 3, 0.008
"""Where so many went together, the next transaction begins so long after that one: each costs as much as what three
entries write, and of what comes meanwhile more go together. Who is alone waits for nobody."""
MOST_WAITING = 1024
MOST_GOING_ON = 4096
"""What calls that were admitted need waits where new ones are refused: settlements make room."""

Write: TypeAlias = Callable[[Sequence[Entry]], Awaitable[list[Booked | ValueError]]]


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    entry: Entry
    booked: asyncio.Future[Booked]


@dataclass(slots=True, eq=False)
class Queue:
    """Takes turns: one transaction at a time."""

    write: Write
    waiting: deque[Waiting] = field(default_factory=deque)
    flusher: asyncio.Task[None] | None = None

    async def put(self, entry: Entry) -> Booked:
        """What became of it. An entry whose caller goes away before its turn is not written. Raises what `write`
        raises, ValueError for an entry that cannot be told, Exhausted ROOM_BUSY when too many wait."""
        if len(self.waiting) >= (MOST_WAITING if isinstance(entry, Admit) else MOST_GOING_ON):
            message = "Too many calls of your tenant begin at once. Try again in a moment."
            raise Exhausted("ROOM_BUSY", message, retry_after_s=1)
        one = Waiting(entry, asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        if self.flusher is None:
            self.flusher = asyncio.create_task(self._flush(), name="books", context=Context())
        return await one.booked

    async def _flush(self) -> None:
        try:
            while batch := self._next():
                again = time.monotonic() + (PACE_S if len(batch) >= CROWD else 0.0)
                await self._write(batch)
                if (pause := again - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
        finally:
            self.flusher = None
            for one in self.waiting:  # it was cancelled, with all that the room does
                one.booked.cancel()
            self.waiting.clear()

    def _next(self) -> list[Waiting]:
        batch: list[Waiting] = []
        while self.waiting and len(batch) < MOST_AT_ONCE:
            one = self.waiting.popleft()
            if not one.booked.cancelled():
                batch.append(one)
        return batch

    async def _write(self, batch: Sequence[Waiting]) -> None:
        try:
            results = await self.write([one.entry for one in batch])
        except Exception as fault:
            if len(batch) == 1 or (isinstance(fault, Refusal) and not isinstance(fault, Invalid)):
                for one in batch:
                    fail(one, fault)
                return
            for one in batch:  # the others need not fail with it
                await self._write([one])
        except BaseException:
            for one in batch:
                one.booked.cancel()
            raise
        else:
            for one, result in zip(batch, results, strict=True):
                if isinstance(result, ValueError):
                    fail(one, result)
                elif not one.booked.done():
                    one.booked.set_result(result)


def fail(one: Waiting, fault: Exception) -> None:
    if not one.booked.done():
        one.booked.set_exception(fault)
