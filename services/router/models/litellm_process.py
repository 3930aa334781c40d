"""The router's end of the litellm process: begun with the first call, many calls at once, given up after idling."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from services.common.telemetry import log

START_S = 60.0
IDLE_S = 600.0
GOODBYE_S = 1.0
MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_WAITING_BYTES = 4 * 1024 * 1024
"""Of one call, that nobody has taken yet."""
COMMAND = (sys.executable, "-m", "services.router.models.litellm_worker")
OTHERS = ("SOMA", "PG")
"""What begins so in our environment is not for litellm, and no key is: each call brings its own."""
KEYS = ("_API_KEY", "_ACCESS_TOKEN", "_AUTH_TOKEN")

encode = msgspec.json.Encoder().encode


class Gone(Exception):  # noqa: N818 - tells what became of it
    """The process could not be begun, or died."""


@dataclass(slots=True, eq=False)
class Line:
    """One call's end of the pipe."""

    id: int
    process: Process
    waiting: deque[tuple[bytes, bytes]] = field(default_factory=deque)
    waiting_bytes: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, kind: bytes, body: bytes) -> None:
        """One that takes too slowly is told so instead of what is too much."""
        if self.waiting_bytes > MOST_WAITING_BYTES:
            return
        self.waiting_bytes += len(body)
        self.waiting.append(
            (kind, body) if self.waiting_bytes <= MOST_WAITING_BYTES else (b"broken", b'{"is_cut": true}')
        )
        self.came.set()

    async def take(self) -> list[tuple[bytes, bytes]]:
        """All that has come; waits for something. Raises Gone."""
        while not self.waiting:
            if self.process.is_dead:
                raise Gone
            self.came.clear()
            await self.came.wait()
        taken = list(self.waiting)
        self.waiting.clear()
        self.waiting_bytes = 0
        return taken


@dataclass(slots=True, eq=False)
class Process:
    """A running one."""

    child: asyncio.subprocess.Process
    lines: dict[int, Line] = field(default_factory=dict)
    ids: count[int] = field(default_factory=lambda: count(1))
    is_dead: bool = False
    reading: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    started: dict[str, Any] = field(default_factory=dict)

    async def call(self, order: Mapping[str, Any]) -> Line:
        """A line for one call. Raises Gone."""
        line = Line(next(self.ids), self)
        self.lines[line.id] = line
        try:
            await self._send({"id": line.id, **order})
        except BaseException:
            self.hang_up(line)
            raise
        return line

    def hang_up(self, line: Line) -> None:
        if self.lines.pop(line.id, None) and not self.is_dead:
            with contextlib.suppress(Gone):
                self._write({"id": line.id})

    def begin(self) -> None:
        self.reading = asyncio.create_task(self._read(), name="litellm")

    async def end(self) -> None:
        """Its stdin ends, and so does it; killed when it does not."""
        if self.child.stdin:
            self.child.stdin.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self.child.wait()
        except TimeoutError:
            self.child.kill()
            await self.child.wait()
        if self.reading:
            await asyncio.wait([self.reading], timeout=GOODBYE_S)

    async def _send(self, order: Mapping[str, Any]) -> None:
        self._write(order)
        try:
            await self.child.stdin.drain()  # type: ignore[union-attr]
        except OSError as fault:
            raise Gone from fault

    def _write(self, order: Mapping[str, Any]) -> None:
        if self.is_dead or self.child.stdin is None or self.child.stdin.is_closing():
            raise Gone
        self.child.stdin.write(encode(order) + b"\n")

    async def _read(self) -> None:
        """Each line to its call, until the process is gone: then all calls are told."""
        out = self.child.stdout
        try:
            while out and (said := await out.readline()):
                id, _, rest = said.partition(b" ")
                kind, _, body = rest.partition(b" ")
                if kind == b"ready":
                    self.started = msgspec.json.decode(body)
                    self.ready.set()
                elif line := self.lines.get(int(id)):
                    line.put(kind, body)
        except (ValueError, OSError) as fault:
            log().error("litellm's process says what nobody understands", cause=repr(fault))
        finally:
            self.is_dead = True
            self.ready.set()
            for line in self.lines.values():
                line.came.set()
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()


@dataclass(slots=True, eq=False)
class Processes:
    """The one process, when there is one."""

    idle_s: float = IDLE_S
    now: Process | None = None
    calls: int = 0
    beginning: asyncio.Task[None] | None = None
    idling: asyncio.TimerHandle | None = None
    ending: set[asyncio.Task[None]] = field(default_factory=set)

    async def call(self, order: Mapping[str, Any]) -> Line:
        """A line for one call in the process, begun where there is none; to be given to `leave`. Raises Gone."""
        self.calls += 1
        if self.idling:
            self.idling.cancel()
        try:
            process = await self._running()
            return await process.call(order)
        except BaseException:
            self._left()
            raise

    def leave(self, line: Line) -> None:
        line.process.hang_up(line)
        self._left()

    async def end(self) -> None:
        if self.idling:
            self.idling.cancel()
        if self.beginning:
            self.beginning.cancel()
            await asyncio.wait([self.beginning])
        if self.now:
            await self.now.end()
        await asyncio.gather(*self.ending)

    async def _running(self) -> Process:
        """A caller who loses patience leaves the process to begin: the next one finds it ready."""
        while self.now is None or self.now.is_dead:
            if self.beginning is None or self.beginning.done():
                self.beginning = asyncio.create_task(self._begin(), name="litellm begins")
                self.beginning.add_done_callback(seen)
            await asyncio.shield(self.beginning)
        return self.now

    async def _begin(self) -> None:
        """Whether or not somebody still waits for it. Raises Gone."""
        self.now = await begun()
        self._rest()

    def _left(self) -> None:
        self.calls -= 1
        self._rest()

    def _rest(self) -> None:
        if self.idling:
            self.idling.cancel()
        if not self.calls:
            self.idling = asyncio.get_running_loop().call_later(self.idle_s, self._give_up)

    def _give_up(self) -> None:
        if self.now and not self.calls:
            self.ending.add(task := asyncio.create_task(self.now.end(), name="litellm ends"))
            task.add_done_callback(self.ending.discard)
            self.now = None


def seen(beginning: asyncio.Task[None]) -> None:
    """A fault that nobody waited for is no news: the next caller begins anew."""
    if not beginning.cancelled():
        beginning.exception()


def environment_of(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in ours.items() if not name.startswith(OTHERS) and not name.endswith(KEYS)}


async def begun() -> Process:
    """A process that is ready. Raises Gone."""
    try:
        child = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment_of(os.environ),
            limit=MOST_LINE_BYTES,
        )
    except OSError as fault:
        raise Gone from fault
    process = Process(child)
    process.begin()
    try:
        async with asyncio.timeout(START_S):
            await process.ready.wait()
    except TimeoutError as fault:
        child.kill()
        raise Gone from fault
    except asyncio.CancelledError:
        child.kill()
        raise
    if process.is_dead:
        raise Gone
    log().info("litellm began", pid=child.pid, **process.started)
    return process
