"""How commands speak to the supervisor: a unix socket, one JSON object a line, a terminal's files passed along.

A request is one line, such as {"do": "status"}; the answer is one line or many, and ends when the socket closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.local.fault import Fault

LINE_BYTES = 256 * 1024
ASK_S = 10.0
CONNECTIONS = 32
LAST_WORDS_S = 2.0

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on the supervisor's side."""

    request: Line
    files: tuple[int, ...]
    """stdin, stdout and stderr of the caller, when they came along. They close with the exchange."""
    connection: socket.socket
    rest: bytearray = field(default_factory=bytearray)

    async def say(self, line: Mapping[str, Any]) -> None:
        """Send a line. BrokenPipeError when the caller has gone."""
        async with asyncio.timeout(ASK_S):
            data = json.dumps(line).encode() + b"\n"
            await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def hear(self) -> Line | None:
        """The next line of the caller; None when the caller has gone."""
        while b"\n" not in self.rest:
            try:
                data = await asyncio.get_running_loop().sock_recv(self.connection, LINE_BYTES)
            except ConnectionError:
                return None
            if not data or len(self.rest) > LINE_BYTES:
                return None
            self.rest.extend(data)
        line, _, rest = bytes(self.rest).partition(b"\n")
        self.rest[:] = rest
        return _parse(line)


@asynccontextmanager
async def listening(path: Path, answer: Callable[[Exchange], Awaitable[None]]) -> AsyncIterator[None]:
    """Answer requests for as long as the block; then let those that are being answered come to their end."""
    exchanges: set[asyncio.Task[None]] = set()
    with _bound(path) as server:
        accepting = asyncio.create_task(_accept(server, answer, exchanges), name="control")
        try:
            yield
        finally:
            accepting.cancel()
            if exchanges:
                await asyncio.wait(exchanges, timeout=LAST_WORDS_S)
            for exchange in (*exchanges, accepting):
                exchange.cancel()
            await asyncio.gather(accepting, *exchanges, return_exceptions=True)


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A socket for its owner alone."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(CONNECTIONS)
        server.setblocking(False)
        try:
            yield server
        finally:
            path.unlink(missing_ok=True)


async def _accept(
    server: socket.socket, answer: Callable[[Exchange], Awaitable[None]], exchanges: set[asyncio.Task[None]]
) -> None:
    room = asyncio.Semaphore(CONNECTIONS)

    def ended(task: asyncio.Task[None]) -> None:
        exchanges.discard(task)
        room.release()

    while True:
        await room.acquire()
        connection, _ = await asyncio.get_running_loop().sock_accept(server)
        task = asyncio.create_task(_exchange(connection, answer))
        exchanges.add(task)
        task.add_done_callback(ended)


async def _exchange(connection: socket.socket, answer: Callable[[Exchange], Awaitable[None]]) -> None:
    files: list[int] = []
    with connection, contextlib.suppress(ConnectionError, TimeoutError):
        connection.setblocking(False)
        try:
            async with asyncio.timeout(ASK_S):
                line, files = await _first_line(connection)
            await answer(Exchange(_parse(line) or {}, tuple(files), connection))
        finally:
            for file in files:
                os.close(file)


async def _first_line(connection: socket.socket) -> tuple[bytes, list[int]]:
    line, files = b"", []
    while not line.endswith(b"\n") and len(line) < LINE_BYTES:
        await _readable(connection)
        data, came, _, _ = socket.recv_fds(connection, LINE_BYTES, 3)
        files.extend(came)
        if not data:
            break
        line += data
    return line, files


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def come() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, come)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _parse(line: bytes) -> Line | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Call:
    """One request on a command's side: iterate over the lines of the answer."""

    def __init__(self, path: Path, request: Line, files: Sequence[int] = ()) -> None:
        """Fault when no supervisor listens there."""
        self.connection = socket.socket(socket.AF_UNIX)
        try:
            self.connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.connection.close()
            raise Fault("The mesh is down. Start it with: soma up") from error
        line = json.dumps(request).encode() + b"\n"
        if files:
            socket.send_fds(self.connection, [line], list(files))
        else:
            self.connection.sendall(line)

    def __iter__(self) -> Iterator[Line]:
        with self.connection, self.connection.makefile("rb") as lines, contextlib.suppress(ConnectionError):
            for line in lines:
                yield json.loads(line)

    def say(self, line: Line) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(line).encode() + b"\n")


def ask(path: Path, request: Line) -> Line:
    """The one line that answers a request. Fault when no supervisor answers, or when it refuses."""
    call = Call(path, request)
    call.connection.settimeout(ASK_S)
    try:
        answer = next(iter(call), None)
    except TimeoutError:
        answer = None
    if answer is None:
        raise Fault("The supervisor does not answer. See: soma logs supervisor")
    if "fault" in answer:
        raise Fault(str(answer["fault"]))
    return answer
