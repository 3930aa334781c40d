"""Runs of one partition are worked one after another; those of several partitions at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from services.common.background import pause_s
from services.common.log.log import RUN_BYTES, Entry, Place

Run: TypeAlias = Sequence[Entry]
Work: TypeAlias = Callable[[Run], Awaitable[bool]]
"""Whether the run is done. If not, its partition must be given out again."""

AGAIN_S, LONGEST_AGAIN_S = 0.1, 5.0
MOST_BYTES = 32 * 1024 * 1024
"""Of payloads in the lanes: when there are more, no more come in."""


@dataclass(slots=True)
class Lane:
    waiting: deque[Run] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    opens: float | None = None
    """By time.monotonic(), for a lane that is shut. Nothing goes into it until its partition is given out again: what
    is read before that follows on a gap."""
    failed: int = 0
    """In a row."""

    def next(self, most: int) -> Run:
        """What waits first: at most so many, and no more behind the one that passes RUN_BYTES."""
        run, left = list[Entry](), RUN_BYTES
        while self.waiting and left > 0 and len(run) < most:
            found, n = self.waiting.popleft(), 0
            while n < len(found) and left > 0 and len(run) < most:
                run.append(found[n])
                left -= len(found[n].payload)
                n += 1
            if n < len(found):
                self.waiting.appendleft(found[n:])
        return run


class Lanes:
    def __init__(self, work: Work, at_once: int, batch: int) -> None:
        """`at_once` lanes are worked, in batches of so many entries. As many more wait."""
        self._work, self._turns, self._batch = work, asyncio.Semaphore(at_once), batch
        self._free, self._bytes = batch * (2 * at_once + 1), 0
        self._lanes: dict[Place, Lane] = {}
        self._left = asyncio.Event()
        self._ending = False

    async def room(self) -> int:
        """How many entries may come in. Waits until it is a batch at least."""
        while self._free < self._batch or self._bytes > MOST_BYTES:
            self._left.clear()
            await self._left.wait()
        return self._free

    def put(self, run: Run) -> None:
        """Work the run after those of its partition."""
        lane = self._lanes.setdefault(run[0].place, Lane())
        if lane.opens is None:
            self._free -= len(run)
            self._bytes += size(run)
            lane.waiting.append(run)
            lane.task = lane.task or asyncio.create_task(self._go(lane))

    def broken(self) -> Sequence[Place]:
        """Partitions to be given out again, each some time after it failed, longer each time. Their lanes are open from
        now on."""
        now = time.monotonic()
        places = [place for place, lane in self._lanes.items() if lane.opens is not None and lane.opens <= now]
        for place in places:
            self._lanes[place].opens = None
        return places

    def opening_s(self, most: float) -> float:
        """How long it is until one is, but not more than that."""
        opens = [lane.opens for lane in self._lanes.values() if lane.opens is not None]
        return max(0.0, min(most, min(opens, default=math.inf) - time.monotonic()))

    async def end(self, grace_s: float) -> None:
        """Begin no more runs, and cancel those that are not done by then."""
        self._ending = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _go(self, lane: Lane) -> None:
        while lane.waiting:
            done = False
            async with self._turns:
                run = lane.next(self._batch)
                try:
                    done = not self._ending and await self._work(run)
                finally:
                    self._leave(run)
                    lane.failed = 0 if done else lane.failed + 1
                    if not done:
                        self._shut(lane)
        lane.task = None

    def _shut(self, lane: Lane) -> None:
        lane.opens = time.monotonic() + pause_s(lane.failed, AGAIN_S, LONGEST_AGAIN_S)
        while lane.waiting:
            self._leave(lane.waiting.popleft())

    def _leave(self, run: Run) -> None:
        self._free += len(run)
        self._bytes -= size(run)
        self._left.set()


def size(run: Run) -> int:
    return sum(len(entry.payload) for entry in run)
