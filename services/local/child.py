"""One part of the mesh while it lives: started, watched, started again when it ends, ended in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from services.local.fault import Fault
from services.local.logs import last_words, open_log
from services.local.parts import Part
from services.local.process import Process, stop
from services.local.ready import AskHealth, is_ready

AGAIN_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30)
SETTLED_S = 10.0
"""A part that lived this long has been well: its next end is its first."""
POLL_S = 0.05
WORDS = 300


class State(StrEnum):
    """Where a part stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    BY_HAND = "by hand"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Surroundings(Protocol):
    """What a child needs of the supervisor."""

    @property
    def logs(self) -> Path: ...
    @property
    def ask_health(self) -> AskHealth: ...
    def environment(self, part: Part) -> Mapping[str, str]: ...
    def born(self, child: Child) -> None: ...
    def died(self, child: Child, pid: int) -> None: ...
    def changed(self, child: Child, event: str, **facts: Any) -> None: ...


@dataclass(slots=True, eq=False)
class Child:
    """A part and how it is doing."""

    part: Part
    surroundings: Surroundings
    state: State = State.WAITING
    process: Process | None = None
    since: float = 0.0
    """When the state was entered, in seconds of the epoch."""
    took_s: float = 0.0
    """From the last start to ready."""
    restarts: int = 0
    was_ready: bool = False
    said: str = ""
    """Why it ended last."""
    is_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Start the part, and again whenever it ends, later each time. Cancelled, it leaves the process to `end`."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                self.said = await self.live()
            except (OSError, Fault) as error:
                self.said = str(error)
            failures = 0 if time.monotonic() - began > SETTLED_S else failures + 1
            wait_s = AGAIN_S[min(max(failures - 1, 0), len(AGAIN_S) - 1)]
            self.restarts += 1
            self.become(State.RESTARTING, "part ended", said=self.said, again_s=wait_s)
            await asyncio.sleep(wait_s)

    async def live(self) -> str:
        """One life of the process, from start to end; returns why it ended."""
        log = self.surroundings.logs / f"{self.part.name}.log"
        written = log.stat().st_size if log.exists() else 0
        file = open_log(self.surroundings.logs, self.part.name)
        try:
            running = await self.start((asyncio.subprocess.DEVNULL, file, file))
        finally:
            os.close(file)
        self.become(State.STARTING, "part started", pid=running.pid)
        noticing = asyncio.create_task(self.notice_ready())
        try:
            code = await running.wait()
        finally:
            noticing.cancel()
            self.surroundings.died(self, running.pid)
        return f"{_ending(code)}{_quoted(last_words(log, written))}"

    async def start(
        self, files: Sequence[int], more: Mapping[str, str] | None = None, folder: str | None = None
    ) -> asyncio.subprocess.Process:
        """Start the program with these files as its stdin, stdout and stderr, in a session of its own."""
        self.is_up.clear()
        running = await asyncio.create_subprocess_exec(
            *self.part.command,
            stdin=files[0], stdout=files[1], stderr=files[2],
            env={**self.surroundings.environment(self.part), **(more or {})},
            cwd=folder or str(self.surroundings.logs), start_new_session=True,
        )  # fmt: skip
        self.process = Process.of(running.pid)
        self.surroundings.born(self)
        return running

    async def notice_ready(self) -> None:
        began = time.monotonic()
        while not await is_ready(self.part.ready, self.surroundings.ask_health):
            await asyncio.sleep(POLL_S)
        self.took_s = time.monotonic() - began
        self.was_ready = True
        self.is_up.set()
        self.become(State.READY, "part ready", took_s=round(self.took_s, 2))

    async def end(self) -> None:
        """End the process in order. Nothing must keep it at the time."""
        self.is_up.clear()
        if self.process and self.process.is_alive:
            self.become(State.STOPPING, "part stopping")
            if not await stop(self.process, self.part.stop_signal, self.part.grace_s):
                self.said = f"did not stop within {self.part.grace_s:.0f} s and was killed"
        self.process = None
        self.become(State.STOPPED, "part stopped")

    def become(self, state: State, event: str, **facts: Any) -> None:
        self.state, self.since = state, time.time()
        self.surroundings.changed(self, event, **facts)

    def snapshot(self) -> dict[str, Any]:
        """How it is doing, as JSON."""
        return {
            "name": self.part.name,
            "says": self.part.says,
            "state": self.state,
            "pid": self.process.pid if self.process else None,
            "port": self.part.port,
            "since": self.since,
            "took_s": self.took_s,
            "restarts": self.restarts,
            "said": self.said,
        }


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"ended with {code}"


def _quoted(words: str) -> str:
    return f": {words[:WORDS]}" if words else ""
