"""Waiting for a provider's bytes: how long at most, and for a moment where they come quickly."""

from __future__ import annotations

import asyncio
import math
from time import monotonic

import aiohttp

from services.router.models import Broken
from services.router.models.arriving import Arriving

GOODBYE_S = 0.05
LOOK_AGAIN_S = 1.0
TICK_MS = 16
"""A picture of a screen that shows 60 a second."""


class Patience:
    """Closes a response that has been waited for too long. One timer an answer: a timeout around each read would cost a
    third of the read."""

    __slots__ = ("_due", "_loop", "_response", "_rings", "_timer", "is_over", "is_waiting")

    def __init__(self, response: aiohttp.ClientResponse, due: float) -> None:
        self._response, self._loop = response, asyncio.get_running_loop()
        self._due = self._rings = due
        self.is_over = False
        self.is_waiting = False
        """A read is under way. A slow listener is not the provider's fault."""
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._look)

    def until(self, due: float) -> None:
        """Wait until then, or no more. A timer that rings too early looks again; one that would ring too late is set
        anew."""
        self._due = due
        if due <= monotonic():
            self._end()
        elif due < self._rings:
            self._set()

    def __enter__(self) -> Patience:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _set(self) -> None:
        self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_later(max(0.0, self._due - monotonic()), self._look)

    def _look(self) -> None:
        if not self.is_waiting:
            self._due = monotonic() + LOOK_AGAIN_S
        if monotonic() < self._due:
            self._set()
        else:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self._response.close()


async def read(response: aiohttp.ClientResponse, patience: Patience, answer: Arriving) -> bytes:
    """What the network has now; empty at the end of an answer that is whole. Raises Broken for one that is not."""
    try:
        data = await heard(response, patience, answer.provider)
    except Broken:
        if answer.finish_reason:
            return b""
        raise
    if not data and not answer.finish_reason:
        what = "ended the answer in the middle" if answer.has_said else "sent no answer"
        raise Broken(f"{answer.provider} {what}.")
    return data


async def heard(response: aiohttp.ClientResponse, patience: Patience, provider: str) -> bytes:
    """What the network has now; empty at the end. Raises Broken for a fault on the way, after what came before it."""
    patience.is_waiting = True
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError) as fault:
        if before := left(response.content):
            return before
        what = "fell silent" if patience.is_over else "broke the connection"
        raise Broken(f"{provider} {what}.") from fault
    finally:
        patience.is_waiting = False


def left(content: aiohttp.StreamReader) -> bytes:
    """What had come when the connection broke. aiohttp itself gives nothing more of it."""
    fault, content._exception = content._exception, None
    try:
        return content.read_nowait()
    finally:
        content._exception = fault


class Pace:
    """Reads a quick stream at ticks, which all streams share: to wake up costs more than a token, so does a message.
    No first text waits, and nothing that comes more slowly."""

    __slots__ = ("_is_quick", "_loop", "_read", "_response")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response, self._loop = response, asyncio.get_running_loop()
        self._read, self._is_quick = -math.inf, False

    def has_read(self) -> None:
        before, self._read = self._read, self._loop.time()
        self._is_quick = self._read - before < 1.5 * TICK_MS / 1000

    async def gather(self) -> None:
        """Wait for the tick. The network keeps what comes meanwhile."""
        transport = self._response.connection and self._response.connection.transport
        if not self._is_quick or not transport or not transport.is_reading():
            return
        transport.pause_reading()
        try:
            await asyncio.sleep((TICK_MS - round(self._loop.time() * 1000) % TICK_MS) / 1000)
        finally:
            if not transport.is_closing():
                transport.resume_reading()


async def finish(response: aiohttp.ClientResponse) -> None:
    """Read what stands behind the answer, if it is there soon: then the connection can serve the next one."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()
