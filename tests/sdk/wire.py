"""A wire between the SDK and a room, which a test can cut or make deaf. TLS goes through it as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Wire:
    def __init__(self, to: str) -> None:
        self._host, _, self._port = to.rpartition(":")
        self.address = ""
        self.connections = 0
        """How many were made, from the first."""
        self._open: set[asyncio.StreamWriter] = set()
        self._hearing: set[asyncio.Event] = set()

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self._hearing)

    def cut(self) -> None:
        """End every connection, at once."""
        for writer in self._open:
            writer.transport.abort()

    def deafen(self) -> None:
        """Let nothing come back on the connections that there are; what is asked still gets through."""
        for hearing in self._hearing:
            hearing.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        there, back = await asyncio.open_connection(self._host, int(self._port))
        hearing = asyncio.Event()
        hearing.set()
        self._hearing.add(hearing)
        self._open |= {writer, back}
        ways = [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer, hearing))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= {writer, back}
            self._hearing.discard(hearing)
            for way in ways:
                way.cancel()
            writer.transport.abort()
            back.transport.abort()


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: asyncio.Event | None = None
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            if may_pass:
                await may_pass.wait()
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def open_wire(to: str) -> AsyncIterator[Wire]:
    wire = Wire(to)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    wire.address = f"{host}:{port}"
    async with server:
        yield wire
        wire.cut()
