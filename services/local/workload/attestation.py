"""Who is at the other end of a Unix socket: the process, not just its number.

A process number comes back after its process has died; number and start time together do not.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress

from services.local.process import Process, parent_of

HOLD_S = 2.0
"""How long a child of ours that is not admitted yet is waited for: it may be quicker than admit()."""


class Register:
    """The processes that have an identity. Their own children have none."""

    def __init__(self) -> None:
        self._rooms: dict[Process, str] = {}
        self._changed = asyncio.Event()

    def admit(self, pid: int, room: str) -> None:
        """Let this process be the room. Raises ProcessLookupError if it is gone."""
        process = Process.of(pid)
        if process is None:
            raise ProcessLookupError(f"There is no process {pid}.")
        self.forget(pid)
        self._rooms[process] = room
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def forget(self, pid: int) -> None:
        self._rooms = {process: room for process, room in self._rooms.items() if process.pid != pid}

    def room_of(self, pid: int) -> str | None:
        """The room that this very process was admitted as."""
        process = Process.of(pid)
        return self._rooms.get(process) if process else None

    async def attest(self, pid: int) -> str | None:
        """room_of(), with a short wait for a child of this process that is not admitted yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                while self.room_of(pid) is None and parent_of(pid) == os.getpid():
                    await self._changed.wait()
        return self.room_of(pid)


def peer_pid(connection: socket.socket) -> int:
    """The process that opened the other end, told by the kernel."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
