"""Who waits for what is told by NOTIFY. What was told while the connection was away is made up for by a ring for all;
whoever waits looks for itself from time to time all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from services.common.background import alongside, lasting
from services.common.db import Database
from services.common.errors import Unavailable
from services.common.postgres import ACQUIRE_S, store_errors

AGAIN_S = 0.5
ASK_S = 15.0
"""How often a connection is asked whether it is still there: when it is not, nothing is told on it."""


@dataclass(slots=True, eq=False)
class Ear:
    """One who waits."""

    _rung: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        self._rung.set()

    def forget(self) -> None:
        """What was told up to now is known: call it before looking."""
        self._rung.clear()

    async def wait(self, within_s: float) -> None:
        """Until something is told, but not longer."""
        await happens(self._rung, within_s)


@dataclass(frozen=True, slots=True)
class Ears:
    """Those who wait in this process, by channel and word."""

    _open: dict[tuple[str, str], set[Ear]] = field(default_factory=dict)

    @contextmanager
    def ear(self, channel: str, *words: str) -> Iterator[Ear]:
        """Hears these words on the channel for as long as the block."""
        ear = Ear()
        for word in words:
            self._open.setdefault((channel, word), set()).add(ear)
        try:
            yield ear
        finally:
            for word in words:
                self._open[channel, word].discard(ear)

    def hear(self, channel: str, word: str) -> None:
        for ear in self._open.get((channel, word), ()):
            ear.ring()

    def ring_all(self) -> None:
        for ears in self._open.values():
            for ear in ears:
                ear.ring()


@asynccontextmanager
async def open_ears(db: Database, *channels: str) -> AsyncIterator[Ears]:
    """Listen on one of the pool's connections for as long as the block; on another one when it is lost."""
    ears = Ears()
    async with alongside(lasting(lambda: listen(db, channels, ears), name="ears"), name="ears"):
        yield ears


async def listen(db: Database, channels: Sequence[str], ears: Ears) -> None:
    while True:
        with suppress(Unavailable), store_errors():
            async with db.pool.acquire(timeout=ACQUIRE_S) as conn:
                await listen_on(conn, channels, ears)
        await asyncio.sleep(AGAIN_S)


async def listen_on(conn: Any, channels: Sequence[str], ears: Ears) -> None:
    """Until the connection is gone."""
    gone = asyncio.Event()

    def hear(_conn: object, _pid: int, channel: str, word: str) -> None:
        ears.hear(channel, word)

    def end(_conn: object) -> None:
        gone.set()

    conn.add_termination_listener(end)
    try:
        for channel in channels:
            await conn.add_listener(channel, hear)
        ears.ring_all()
        while not await happens(gone, ASK_S):
            await conn.execute("SELECT 1", timeout=ACQUIRE_S)
    finally:
        with suppress(*store_errors.AWAY):  # it is lost already
            conn.terminate()


async def happens(event: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()
