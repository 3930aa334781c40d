"""Processes by what never lies: the pid together with the moment of birth. Nothing is ever ended by its name.

The one door to psutil, which is loaded when it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: a pid alone may be given to another one later."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None when there is none, or only its corpse."""
        born = born_of(pid)
        return None if born is None else cls(pid, born)

    @property
    def is_alive(self) -> bool:
        return born_of(self.pid) == self.born

    def signal(self, number: int) -> None:
        """Send a signal to the process and its group, unless it is gone."""
        if not self.is_alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            leads_group = os.getpgid(self.pid) == self.pid
            (os.killpg if leads_group else os.kill)(self.pid, number)


async def stop(process: Process, number: int = signal.SIGTERM, grace_s: float = 10.0) -> bool:
    """Ask a process to end, and end it when it has not within the grace. False when it had to be ended."""
    process.signal(number)
    if await is_gone(process, grace_s):
        return True
    process.signal(signal.SIGKILL)
    await is_gone(process, 5)
    return False


async def is_gone(process: Process, within_s: float) -> bool:
    """Wait for the end of a process, also one that is nobody's child here."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while process.is_alive:
                await asyncio.sleep(POLL_S)
    return not process.is_alive


def memory_of(pid: int, alone: bool = False) -> int:
    """Bytes that a process and its children hold, what several share counted once. 0 when it is gone."""
    import psutil

    def share(member: psutil.Process) -> int:
        try:
            memory = member.memory_full_info()
        except (psutil.Error, OSError):
            return 0
        return int(getattr(memory, "pss", memory.rss))

    try:
        root = psutil.Process(pid)
        return sum(map(share, [root] if alone else [root, *root.children(recursive=True)]))
    except psutil.Error:
        return 0


def listener(port: int) -> str:
    """Who listens on a port, as "name (pid 7)"; "another program" when the system does not say."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            where = connection.laddr
            if connection.status == psutil.CONN_LISTEN and where and where.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"


def runs_in(pid: int, name: str, folder: Path) -> bool:
    """Whether the process that has this pid is that program, at work in that folder."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.name() == name and Path(process.cwd()) == folder.resolve()
    except psutil.Error:
        return False


def parent_of(pid: int) -> int | None:
    """The parent's pid; None when the process is gone."""
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


def born_of(pid: int) -> str | None:
    """When a living process began, in words that stay the same when the clock is set. None when it is gone."""
    return _born_in_proc(pid) if sys.platform == "linux" else _born_anywhere(pid)


def _born_in_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _born_anywhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
