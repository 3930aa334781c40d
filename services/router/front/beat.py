"""Writes to a client, and says a word when there was nothing to say for a while, so that nobody takes it for dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Send = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Beat:
    """One write at a time: gRPC takes one message after the other. A timer is all that an answer needs which never
    falls silent: a task would cost more than what it says."""

    send: Send
    word: bytes
    silence_s: float
    first_s: float
    """Until the first word, where nothing was written before."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    wrote: float = field(init=False)
    is_writing: bool = False
    saying: asyncio.Task[None] | None = None
    """The word, while it is being written."""
    timer: asyncio.TimerHandle = field(init=False)

    def __post_init__(self) -> None:
        self.wrote = self.loop.time() + self.first_s - self.silence_s
        self.timer = self.loop.call_later(self.first_s, self.look)

    async def write(self, data: bytes) -> None:
        """After the word, where one is being written. Raises what that could not be written for."""
        while (word := self.saying) and not word.done():
            await asyncio.wait([word])  # when it is over, the next one may have begun
        self.check()
        self.saying = None
        await self._write(data)

    def look(self) -> None:
        """Say the word after a silence; look again when the next one may be due."""
        rest_s = self.wrote + self.silence_s - self.loop.time()
        if rest_s <= 0 and not self.is_writing and not self.is_saying:
            self.saying = self.loop.create_task(self._write(self.word), name="heartbeat")
        self.timer = self.loop.call_later(rest_s if rest_s > 0 else self.silence_s, self.look)

    @property
    def is_saying(self) -> bool:
        return self.saying is not None and not self.saying.done()

    async def stop(self) -> None:
        """A word that is being written is cut short."""
        self.timer.cancel()
        if self.saying is not None:
            self.saying.cancel()
            await asyncio.wait([self.saying])

    def check(self) -> None:
        """Raise what the last word could not be written for."""
        if self.saying is not None and not self.saying.cancelled():
            self.saying.result()

    async def _write(self, data: bytes) -> None:
        self.is_writing = True
        try:
            await self.send(data)
        finally:
            self.is_writing = False
            self.wrote = self.loop.time()


@asynccontextmanager
async def beating(send: Send, word: bytes, silence_s: float, first_s: float | None = None) -> AsyncIterator[Send]:
    """A way to write, while the block runs. The word is said after a silence of `silence_s`, at the beginning after one
    of `first_s`."""
    beat = Beat(send, word, silence_s, silence_s if first_s is None else min(first_s, silence_s))
    try:
        yield beat.write
    finally:
        await beat.stop()
    beat.check()
