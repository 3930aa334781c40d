"""A SIEM over real TLS: it takes syslog frames or webhook batches, or hangs, refuses, hangs up."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from services.local.edge.certificates import make


@dataclass
class FakeSiem:
    ca: Path
    host: str
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    """In order of coming."""
    batches: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    asked: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, the SIEM takes nothing and says nothing."""
    status: int = 200
    poison: str = ""
    """The id of an event that it refuses."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    strayed: int = 0
    """Requests that went where they were redirected to."""
    hang_up_after: int = 0
    """Messages, once."""

    @property
    def ids(self) -> list[str]:
        return [event["metadata"]["uid"] for event in self.events]

    async def post(self, request: web.Request) -> web.Response:
        self.asked += 1
        await self.open.wait()
        self.tokens.append(request.headers.get("authorization", ""))
        events = msgspec.json.decode(await request.read())
        if self.status != 200:
            return web.Response(status=self.status, headers={"location": "/elsewhere"})
        if self.poison in [event["metadata"]["uid"] for event in events]:
            return web.Response(status=400)
        self.events += events
        self.batches.append(len(events))
        return web.Response(status=204)

    def reset(self) -> None:
        """End every connection at once, without a word."""
        for writer in self.writers:
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                same.shutdown(socket.SHUT_RDWR)
        self.writers.clear()

    async def stray(self, _request: web.Request) -> web.Response:
        self.strayed += 1
        return web.Response()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await self.open.wait()
                length = int(await reader.readuntil(b" "))
                message = await reader.readexactly(length)
                self.events.append(msgspec.json.decode(message.split(b" - ", 2)[2]))
                if self.hang_up_after and len(self.events) >= self.hang_up_after:
                    self.hang_up_after = 0
                    break
        writer.transport.abort()


@asynccontextmanager
async def open_fake_siem(kind: str, folder: Path, host: str = "localhost") -> AsyncIterator[FakeSiem]:
    """`syslog` or `webhook`, with a certificate for localhost."""
    make(folder)
    fake = FakeSiem(folder / "ca.pem", host)
    fake.open.set()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    opened = syslog(fake, context) if kind == "syslog" else webhook(fake, context)
    async with opened:
        yield fake


@asynccontextmanager
async def syslog(fake: FakeSiem, context: ssl.SSLContext) -> AsyncIterator[None]:
    listening = socket.create_server((fake.host, 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # what is not read soon is not taken
    server = await asyncio.start_server(fake.connected, sock=listening, ssl=context)
    fake.url = f"syslog+tls://{fake.host}:{listening.getsockname()[1]}"
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def webhook(fake: FakeSiem, context: ssl.SSLContext) -> AsyncIterator[None]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/events", fake.post)
    app.router.add_post("/elsewhere", fake.stray)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, fake.host, 0, ssl_context=context).start()
    fake.url = f"https://{fake.host}:{runner.addresses[0][1]}/events"
    try:
        yield
    finally:
        fake.open.set()
        await runner.cleanup()
