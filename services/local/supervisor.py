"""The process that keeps the mesh of one machine: starts the parts in order, keeps them up, ends them in order.

    python -m services.local.supervisor --data .soma [--port 8080] [--attached]

`soma up` starts it. It gives each room its identity, brings the database up to date, and answers on its socket.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from services.common.modes import ALLOWS, Mode
from services.local import hands, leftovers, postgres, valkey
from services.local.child import Child, State
from services.local.control import Exchange, listening
from services.local.fault import Fault, of_disk
from services.local.journal import Journal
from services.local.logs import cut_large
from services.local.parts import IDENTITIES, SCHEMA, Part, parts_of
from services.local.process import Process, memory_of
from services.local.ready import Serves, is_ready, why_not_whole
from services.local.stack import ROOMS, Stack, held, open_stack, tenants_file, write_json

if TYPE_CHECKING:
    from services.local.identities import Identities

TENANTS = ("acme", "globex")
START_S, LOOK_S = 60.0, 0.1
GIVEN_UP_AFTER = 3
"""A part that ended this often before it was ever ready will not become so by waiting."""
CUT_LOGS_EVERY_S = 30.0
HELD = 3
"""The exit code of a second supervisor of one folder."""
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "USER")
"""What a part gets of the caller's environment, with the SOMA_ names that the mesh does not set itself."""


@dataclass(slots=True, eq=False)
class Supervisor:
    """The mesh as it runs."""

    stack: Stack
    journal: Journal
    logs: Path
    identities: Identities | None = None
    children: dict[str, Child] = field(default_factory=dict)
    keeping: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    trouble: str = ""
    """Why the mesh cannot start at all."""
    missing: str = "starting"
    """Why the mesh as a whole cannot answer a chat; empty when it could at the last look."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    telling: set[asyncio.Task[None]] = field(default_factory=set)

    # --- what children need of it

    def environment(self, part: Part) -> Mapping[str, str]:
        passed = {name: value for name, value in os.environ.items() if name in PASSED or name.startswith("SOMA_")}
        return {**passed, "PYTHONUNBUFFERED": "1", **part.environment}

    def born(self, child: Child) -> None:
        self.record()
        if self.identities and child.part.is_room and child.process:
            self.identities.admit(child.process.pid, child.part.name)

    async def ask_health(self, check: Serves) -> bool:
        return self.identities is not None and await self.identities.ask_health(check)

    def changed(self, child: Child, event: str, **facts: Any) -> None:
        level = "warning" if child.state is State.RESTARTING else "info"
        self.journal.note(event, level, part=child.part.name, **facts)
        if child.state is State.STOPPED:
            self.record()
        self.tell()

    # --- the life of the mesh

    async def live(self) -> None:
        """Start everything, keep it, and end it in order once `ending` is set."""
        self.children = {part.name: Child(part, self) for part in parts_of(self.stack)}
        self.gates = {
            SCHEMA: asyncio.Event(),
            IDENTITIES: asyncio.Event(),
            **{name: child.is_up for name, child in self.children.items()},
        }
        works = (self.furnish(), self.cut_logs(), self.look_at_whole())
        upkeep = [asyncio.create_task(work) for work in works]
        for name in self.children:
            self.keep(name)
        try:
            async with AsyncExitStack() as doors:
                doors.push_async_callback(self.end_all)
                await self.identify(doors)
                await self.ending.wait()
        finally:
            for task in upkeep:
                task.cancel()

    async def identify(self, doors: AsyncExitStack) -> None:
        """Open the Workload API. Its libraries take half a second to load: meanwhile the stores start."""
        identities, edge_files = await asyncio.to_thread(load, "identities", "edge_files")
        self.identities = await doors.enter_async_context(identities.open_identities(self.stack))
        doors.push_async_callback(self.end_all)
        await asyncio.to_thread(edge_files.write_edge, self.stack)
        self.gates[IDENTITIES].set()

    def keep(self, name: str) -> None:
        self.keeping[name] = asyncio.create_task(self.keep_in_order(self.children[name]), name=f"keep {name}")

    async def keep_in_order(self, child: Child) -> None:
        for gate in child.part.after:
            await self.gates[gate].wait()
        await child.keep()

    async def rest(self, name: str) -> None:
        """End a part and leave it so."""
        self.keeping[name].cancel()
        await asyncio.gather(self.keeping[name], return_exceptions=True)
        await self.children[name].end()

    async def end_all(self) -> None:
        """The way in first, what must not be lost last."""
        if all(child.state is State.STOPPED for child in self.children.values()):
            return
        self.journal.note("mesh stopping")
        for names in (("edge",), ("agent",), ("router",), ("issuer", "model"), ("valkey", "postgres")):
            await asyncio.gather(*(self.rest(name) for name in names if name in self.keeping))
        self.journal.note("mesh stopped")

    async def furnish(self) -> None:
        """Bring the database up to date once it is there: tables, logins of rooms, tenants for developers."""
        try:
            await self.gates["postgres"].wait()
            await furnish(self.stack)
        except Exception as error:
            self.fail(f"The database cannot be brought up to date: {error}. See: soma logs postgres")
            return
        self.gates[SCHEMA].set()

    async def look_at_whole(self) -> None:
        """Once every part is ready, ask until the mesh can answer a chat."""
        for child in self.children.values():
            await child.is_up.wait()
        while self.missing:
            self.missing = await why_not_whole(self.stack.ports["edge"])
            await asyncio.sleep(LOOK_S if self.missing else 0)
        self.journal.note("mesh ready", took_s=round(time.monotonic() - self.began, 2))
        self.tell()

    async def cut_logs(self) -> None:
        while True:
            await asyncio.to_thread(cut_large, self.logs)
            await asyncio.sleep(CUT_LOGS_EVERY_S)

    def fail(self, sentence: str) -> None:
        self.trouble = sentence
        self.journal.note("mesh failed", "error", why=sentence)
        self.tell()
        self.ending.set()

    # --- what it tells

    async def answer(self, exchange: Exchange) -> None:
        match exchange.request:
            case {"do": "status"}:
                await exchange.say(await self.status())
            case {"do": "watch"}:
                await self.show(exchange, lambda: self.verdict() != "starting")
            case {"do": "down"}:
                self.ending.set()
                await self.show(exchange, lambda: all(c.state is State.STOPPED for c in self.children.values()))
            case {"do": "run", "part": str(name)}:
                await hands.run(self, name, exchange)
            case _:
                await exchange.say({"fault": "The supervisor does not know this request. Is it of another release?"})

    async def show(self, exchange: Exchange, is_over: Any) -> None:
        """Send how the mesh stands now and after each change, until it is over."""
        while True:
            async with self.news:
                await exchange.say(self.snapshot())
                if is_over():
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self.news.wait()

    def tell(self) -> None:
        task = asyncio.create_task(self._tell())
        self.telling.add(task)
        task.add_done_callback(self.telling.discard)

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

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

    def snapshot(self) -> dict[str, Any]:
        return {
            "url": self.stack.url,
            "home": str(self.stack.home),
            "mode": self.stack.mode,
            "pid": os.getpid(),
            "verdict": self.verdict(),
            "trouble": self.trouble,
            "missing": self.missing,
            "parts": [child.snapshot() for child in self.children.values()],
        }

    async def status(self) -> dict[str, Any]:
        """The snapshot, with each part's health asked for now and its memory."""
        snapshot = self.snapshot()
        snapshot["missing"] = await why_not_whole(self.stack.ports["edge"])
        healths = asyncio.gather(*(self.health(child) for child in self.children.values()))
        pids = [part["pid"] for part in snapshot["parts"]]
        memories, own = await asyncio.to_thread(lambda: ([memory_of(p) if p else 0 for p in pids], memory_of_self()))
        for part, memory, health in zip(snapshot["parts"], memories, await healths, strict=True):
            part.update(memory_bytes=memory, health=health)
        return snapshot | {"memory_bytes": own}

    async def health(self, child: Child) -> str:
        if child.state not in (State.READY, State.BY_HAND):
            return child.state
        return "well" if await is_ready(child.part.ready, self.ask_health) else "silent"

    def record(self) -> None:
        """Write down every process of ours, so that the next supervisor finds them if this one is killed."""
        processes = [child.process for child in self.children.values() if child.process]
        leftovers.write(self.stack.run, [p for p in (Process.of(os.getpid()), *processes) if p])


def load(*names: str) -> Sequence[ModuleType]:
    return [import_module(f"services.local.{name}") for name in names]


def take_all_files() -> None:
    """As many open files as the system lets us have: each stream of the edge is two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def furnish(stack: Stack) -> None:
    from services.common import schema

    admin_url = postgres.url(stack.ports["postgres"], stack.passwords["postgres"])
    await schema.migrate(admin_url, ROOMS)
    for room in ROOMS:
        await schema.set_room_password(admin_url, room, stack.passwords[f"soma_{room}"])
    if ALLOWS[stack.mode].dev_issuer:
        for tenant in TENANTS:
            await schema.add_tenant(admin_url, tenant, ROOMS)
        if not (file := tenants_file(stack.home)).exists():
            file.write_text("".join(f"{tenant}\n" for tenant in TENANTS))


def memory_of_self() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


async def supervise(home: Path, edge_port: int | None, mode: Mode, attached: bool) -> None:
    """Live in a folder until told to end. Fault when it cannot be done."""
    await leftovers.clear(home / "run")
    stack = open_stack(home, edge_port, mode)
    cut_large(stack.logs)
    valkey.prepare(stack.home / "valkey", stack.run / "valkey.conf", stack.ports["valkey"], stack.passwords["valkey"])
    journal = Journal.open(stack.logs)
    supervisor = Supervisor(stack, journal, stack.logs)
    supervisor.record()
    write_json(stack.run / "mode.json", {"mode": mode})
    async with AsyncExitStack() as doors:
        await doors.enter_async_context(listening(stack.control_socket, supervisor.answer))
        listen_to_signals(supervisor, attached)
        speak_into(journal)
        journal.note("mesh starting", url=stack.url, mode=mode, pid=os.getpid())
        try:
            await postgres.prepare(stack.home / "postgres", stack.passwords["postgres"])
            await supervisor.live()
        except Fault as fault:
            supervisor.fail(str(fault))
        if supervisor.trouble:
            await asyncio.sleep(1)


def listen_to_signals(supervisor: Supervisor, attached: bool) -> None:
    """SIGTERM and SIGINT end the mesh; so does the end of the command that it is attached to."""
    loop = asyncio.get_running_loop()

    def end_with_command() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            supervisor.ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.ending.set)
    if attached:
        loop.add_reader(0, end_with_command)


def speak_into(journal: Journal) -> None:
    """From here on the log takes what is said; whoever waits on our stderr sees its end, and knows that we serve."""
    os.dup2(journal.file, 1)
    os.dup2(journal.file, 2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="services.local.supervisor")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--attached", action="store_true")
    words = parser.parse_args()
    home = words.data.resolve()
    os.umask(0o077)
    take_all_files()
    try:
        mode = Mode(os.environ.get("SOMAGENT_MODE", Mode.DEVELOPER))
        with held(home) as mine:
            if not mine:
                sys.exit(HELD)
            asyncio.run(supervise(home, words.port, mode, words.attached))
    except ValueError:
        sys.exit(f"SOMAGENT_MODE is none of {', '.join(Mode)}.")
    except Fault as fault:
        sys.exit(str(fault))
    except OSError as error:
        sys.exit(str(of_disk(error, home)))


if __name__ == "__main__":
    main()
