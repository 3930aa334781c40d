"""Who is at the other end of a Unix socket: the process, not just its number.

A process number comes back after its process has died; number and start time together do not.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOLD_S = 2.0
"""How long a child of ours that is not admitted yet is waited for: it may be quicker than admit()."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A process that was admitted as a room."""

    room: str
    started: int


class Register:
    """The processes that have an identity. Their own children have none."""

    def __init__(self) -> None:
        self._workloads: dict[int, Workload] = {}
        self._changed = asyncio.Event()

    def admit(self, pid: int, room: str) -> None:
        """Let this process be the room. Raises ProcessLookupError if it is gone."""
        self._workloads[pid] = Workload(room, start_time(pid))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def forget(self, pid: int) -> None:
        self._workloads.pop(pid, None)

    def room_of(self, pid: int) -> str | None:
        """The room that this very process was admitted as."""
        workload = self._workloads.get(pid)
        try:
            return workload.room if workload and workload.started == start_time(pid) else None
        except ProcessLookupError:
            return None

    async def attest(self, pid: int) -> str | None:
        """room_of(), with a short wait for a child of this process that is not admitted yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                while pid not in self._workloads and parent_of(pid) == os.getpid():
                    await self._changed.wait()
        return self.room_of(pid)


def peer_pid(connection: socket.socket) -> int:
    """The process that opened the other end, told by the kernel."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot (field 22 of /proc/PID/stat)."""
    return int(_stat(pid)[19])


def parent_of(pid: int) -> int | None:
    """The parent's number; None if the process is gone."""
    try:
        return int(_stat(pid)[1])
    except ProcessLookupError:
        return None


def _stat(pid: int) -> list[str]:
    """The fields from the third on: the second is the program's name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"There is no process {pid}.") from None
