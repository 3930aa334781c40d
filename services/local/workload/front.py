"""The socket that every workload connects to: asks the kernel who it is and leads it to that room's own server.

gRPC for Python cannot tell who is at the other end of a Unix socket, so each identity has a server of its own behind
this one, and bytes are passed through. The inner sockets lie in a folder that only this account can enter; processes of
the same account could read the authority's keys as well, so nothing stronger is claimed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from services.common.lines import log
from services.local.workload.attestation import Register, peer_pid

PATH_BYTES = 107
"""What the kernel takes as a Unix socket's path."""
CONNECTIONS = 256
CHUNK_BYTES = 64 * 1024
NOBODY = ".nobody"

Furnish = Callable[[grpc.aio.Server, str | None], None]
"""Adds the services of one room to its server; None is for those who have no room."""


@asynccontextmanager
async def open_front(path: Path, register: Register, furnish: Furnish) -> AsyncIterator[Front]:
    """Listen at `path` until the block ends. A socket left there by a killed process is replaced."""
    with _listening(path) as listening:
        front = Front(_inner(path), register, furnish)
        server = await asyncio.start_unix_server(front.receive, sock=listening)
        try:
            yield front
        finally:
            server.close()
            await front.close()


class Front:
    """The connections that are open, and the servers behind them."""

    def __init__(self, inner: Path, register: Register, furnish: Furnish) -> None:
        self._inner, self._register, self._furnish = inner, register, furnish
        self._servers: dict[str | None, tuple[grpc.aio.Server, Path]] = {}
        self._starting = asyncio.Lock()
        self._connections: dict[asyncio.Task[None], tuple[int, asyncio.WriteTransport]] = {}

    @property
    def asking(self) -> set[int]:
        """The processes with an open connection."""
        return {pid for pid, _ in self._connections.values()}

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        pid = peer_pid(writer.get_extra_info("socket"))
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS:
            writer.close()
            return
        self._connections[task] = pid, writer.transport
        try:
            await self._lead(pid, reader, writer)
        finally:
            del self._connections[task]
            writer.close()

    def cut(self, pid: int) -> None:
        """End the connections of a process; when it comes again it is looked at anew."""
        for owner, transport in self._connections.values():
            if owner == pid:
                transport.abort()

    async def close(self) -> None:
        connections = dict(self._connections)
        for _, transport in connections.values():
            transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)
        for server, path in self._servers.values():
            await server.stop(grace=None)
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self._inner.rmdir()

    async def _lead(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = await self._register.attest(pid)
        if room is None:
            log().warning("a process without a room asked for an identity", pid=pid)
        inner_reader, inner_writer = await asyncio.open_unix_connection(await self._server(room))
        try:
            await _first_of(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.close()

    async def _server(self, room: str | None) -> Path:
        async with self._starting:
            if room not in self._servers:
                path = self._inner / f"{room or NOBODY}"
                path.unlink(missing_ok=True)
                server = grpc.aio.server()
                self._furnish(server, room)
                server.add_insecure_port(f"unix:{path}")
                await server.start()
                self._servers[room] = server, path
            return self._servers[room][1]


async def _first_of(*copies: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


def _inner(path: Path) -> Path:
    """The inner sockets' folder: a short path, for the kernel's limit, and the same at each start: none is left."""
    name = f"soma-{os.getuid()}-{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:12]}"
    inner = Path(tempfile.gettempdir(), name)
    inner.mkdir(mode=0o700, exist_ok=True)
    found = inner.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{inner} is not this account's own folder. Remove it and start again.")
    return inner


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket that only this account may connect to; nothing of it is left at the end."""
    if len(os.fsencode(path)) > PATH_BYTES:
        raise ValueError(
            f"The socket's path is longer than {PATH_BYTES} bytes: {path}. Choose a data folder with a shorter path."
        )
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)
