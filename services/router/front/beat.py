"""Writes to a client, and says a word when there was nothing to say for a while, so that nobody takes it for dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.background import alongside

Send = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Beat:
    """One writer at a time: gRPC takes one message after the other."""

    send: Send
    word: bytes
    silence_s: float
    free: asyncio.Lock = field(default_factory=asyncio.Lock)
    wrote: float = 0.0

    async def write(self, data: bytes) -> None:
        async with self.free:
            await self.send(data)
            self.wrote = asyncio.get_running_loop().time()

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.wrote + self.silence_s - asyncio.get_running_loop().time())
            if asyncio.get_running_loop().time() >= self.wrote + self.silence_s:
                await self.write(self.word)


@asynccontextmanager
async def beating(send: Send, word: bytes, silence_s: float) -> AsyncIterator[Send]:
    """A way to write, while the block runs."""
    beat = Beat(send, word, silence_s, wrote=asyncio.get_running_loop().time())
    async with alongside(beat.keep(), name="heartbeat"):
        yield beat.write
