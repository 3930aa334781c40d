"""The mesh as it runs: its parts started in order, kept up, and ended in order."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.common import lines
from services.local import leftovers
from services.local.child import Child, State
from services.local.event_log import KAFKA, carry_over
from services.local.fault import Fault, of_disk
from services.local.journal import Journal
from services.local.logs import cut_large
from services.local.parts import IDENTITIES, SCHEMA, Part, parts_of
from services.local.process import Process
from services.local.ready import Serves, why_not_whole
from services.local.stack import Stack

if TYPE_CHECKING:
    from services.local.identities import Identities

START_S, LOOK_S, CUT_LOGS_EVERY_S = 60.0, 0.1, 30.0
GIVEN_UP_AFTER = 3
"""A part that ended this often before it was ever ready will not become so by waiting."""
ENDING = (
    ("agent",),
    ("edge",),
    ("canvas", "router", "console"),
    ("workers", "issuer", "model"),
    ("valkey", "postgres", "kafka"),
)
"""The agent first, while its streams can still end in band through the edge; what must not be lost last."""
PASSED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What a part gets of the caller's environment, with the SOMA_ names that the mesh does not set itself."""


@dataclass(slots=True, eq=False)
class Mesh:
    """All parts of one stack, and how they are doing."""

    stack: Stack
    journal: Journal
    identities: Identities | None = None
    children: dict[str, Child] = field(default_factory=dict)
    keeping: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    by_hand: set[str] = field(default_factory=set)
    """What runs in somebody's terminal, or is about to."""
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    trouble: str = ""
    """Why the mesh cannot be started at all."""
    missing: str = "The mesh is starting."
    """Why no chat can be answered; empty once one could."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the next change, and then replaced."""

    @property
    def logs(self) -> Path:
        return self.stack.logs

    async def live(self) -> None:
        """Start everything, keep it, and end it in order once `ending` is set. Fault when it cannot be started."""
        self.children = {part.name: Child(part, self) for part in parts_of(self.stack)}
        self.gates = {SCHEMA: asyncio.Event(), IDENTITIES: asyncio.Event()}
        self.gates |= {name: child.is_up for name, child in self.children.items()}
        upkeep = [self.begin(work) for work in (self.prepare_database(), self.cut_logs(), self.look_at_whole())]
        for name in self.children:
            self.keep(name)
        async with AsyncExitStack() as doors:
            try:
                await self.identify(doors)
                await self.ending.wait()
            finally:
                for task in upkeep:
                    task.cancel()
                await self.end_all()

    def keep(self, name: str) -> None:
        """Start a part when what it needs is there, and keep it up."""
        self.keeping[name] = self.begin(self._keep(self.children[name]))

    async def _keep(self, child: Child) -> None:
        for gate in child.part.after:
            await self.gates[gate].wait()
        await child.keep()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside the rest. A fault in it that nobody foresaw ends the mesh, and is told."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._look_at_end)
        return task

    def _look_at_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()):
            traceback.print_exception(fault)
            self.fail(f"The supervisor failed: {type(fault).__name__}: {fault}. See: soma logs supervisor")

    async def rest(self, name: str) -> None:
        """End a part and leave it so."""
        self.keeping[name].cancel()
        await asyncio.gather(self.keeping[name], return_exceptions=True)
        await self.children[name].end()

    async def end_all(self) -> None:
        self.journal.note("mesh stopping")
        for names in ENDING:
            await asyncio.gather(*(self.rest(name) for name in names if name in self.keeping))
        self.journal.note("mesh stopped")

    async def identify(self, doors: AsyncExitStack) -> None:
        """Serve the Workload API. Its libraries take half a second to load: meanwhile the stores start."""
        identities = await asyncio.to_thread(import_module, "services.local.identities")
        edge_files = await asyncio.to_thread(import_module, "services.local.edge.files")
        lines.begin(self.journal.write)
        self.identities = await doors.enter_async_context(identities.open_identities(self.stack))
        await asyncio.to_thread(edge_files.write_edge, self.stack)
        self.gates[IDENTITIES].set()

    def trust_peers(self) -> dict[str, str]:
        """Take up which peers are kept now. Before the identities are open there is nothing to renew."""
        try:
            if self.identities:
                self.identities.trust_peers()
        except OSError as error:
            return {"fault": str(of_disk(error, self.stack.home))}
        self.journal.note("peers read")
        return {}

    async def prepare_database(self) -> None:
        """Bring the database up to date once it is there, and take over what another log still has."""
        await self.gates["postgres"].wait()
        database = await asyncio.to_thread(import_module, "services.local.database")
        try:
            await database.bring_up_to_date(self.stack)
            if self.stack.log.left == KAFKA:
                await self.gates["kafka"].wait()
            await carry_over(self.stack)
        except Fault as fault:
            self.fail(str(fault))
            return
        self.gates[SCHEMA].set()

    async def look_at_whole(self) -> None:
        """Once every part is ready, ask until the mesh can answer a chat."""
        for child in self.children.values():
            await child.is_up.wait()
        while missing := await why_not_whole(self.stack.ports["edge"], self.stack.https):
            self.missing = missing
            await asyncio.sleep(LOOK_S)
        self.missing = ""
        self.journal.note("mesh ready", took_s=round(time.monotonic() - self.began, 2))
        self.tell()

    async def cut_logs(self) -> None:
        while True:
            await asyncio.to_thread(cut_large, self.logs)
            await asyncio.sleep(CUT_LOGS_EVERY_S)

    def fail(self, sentence: str) -> None:
        """Give up, and say why."""
        self.trouble = sentence
        self.journal.note("mesh failed", "error", why=sentence)
        self.ending.set()
        self.tell()

    def tell(self) -> None:
        """Wake those who watch."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    def verdict(self) -> str:
        """starting, up, stopping, or failed: what a person who waits should know."""
        if self.trouble:
            return "failed"
        if self.ending.is_set():
            return "stopping"
        if not self.missing:
            return "up"
        if any(not child.was_ready and child.restarts >= GIVEN_UP_AFTER for child in self.children.values()):
            return "failed"
        return "failed" if time.monotonic() - self.began > START_S else "starting"

    @property
    def is_down(self) -> bool:
        return all(child.state is State.STOPPED for child in self.children.values())

    # What children ask of it.

    def environment(self, part: Part) -> Mapping[str, str]:
        passed = {name: value for name, value in os.environ.items() if name in PASSED or name.startswith("SOMA_")}
        return {**passed, "PYTHONUNBUFFERED": "1", **part.environment}

    async def ask_health(self, check: Serves) -> bool:
        return self.identities is not None and await self.identities.ask_health(check)

    def born(self, child: Child) -> None:
        """A part has a process: write it down, and give it its identity until it ends."""
        self.record()
        if self.identities and child.part.is_room and child.process:
            self.identities.admit(child.process.pid, child.part.name)

    def died(self, child: Child, pid: int) -> None:
        if self.identities and child.part.is_room:
            self.identities.forget(pid)

    def changed(self, child: Child, event: str, **facts: Any) -> None:
        level = "warning" if child.state is State.RESTARTING else "info"
        self.journal.note(event, level, part=child.part.name, **facts)
        self.record()
        self.tell()

    def record(self) -> None:
        """Write down every process of ours, so that the next supervisor finds them if this one is killed.

        A full disk must not end the mesh: then the list is as old as the disk is full.
        """
        processes = [child.process for child in self.children.values() if child.process]
        try:
            leftovers.write(self.stack.run, [process for process in (Process.of(os.getpid()), *processes) if process])
        except OSError as error:
            self.journal.note("processes not written down", "warning", why=str(error))
