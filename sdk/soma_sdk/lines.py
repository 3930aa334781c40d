"""Connections to one address. Calls that begin now get the newest; an old one is closed when its last call ended."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpclib.client
from grpclib.client import Handler
from grpclib.config import Configuration

from soma_sdk.apart import apart
from soma_sdk.errors import Details, Unavailable, lost
from soma_sdk.goaway import Protocol
from soma_sdk.svid import Svid

CONNECT_S = 10.0
AGAIN_S = 1.0
"""How long certificate files that do not fit together, or that nobody trusts yet, are left alone."""


class Channel(grpclib.client.Channel):
    """Closes at once. asyncio waits half a minute for the other end's TLS goodbye, and gRPC servers send none."""

    @property
    def is_leaving(self) -> bool:
        """The server takes no new calls on it."""
        return isinstance(self._protocol, Protocol) and self._protocol.processor.is_leaving

    def _protocol_factory(self) -> Protocol:
        return Protocol(Handler(), self._config, self._h2_config)

    def close(self) -> None:
        transport = getattr(self._protocol.connection, "_transport", None) if self._protocol else None
        super().close()
        if transport:
            transport.abort()


class Line:
    """One connection and how many calls run on it."""

    def __init__(self, channel: Channel, stamp: tuple[int, ...]) -> None:
        self.channel, self.stamp = channel, stamp
        self.running = 0


class Lines:
    def __init__(self, address: str, svid: Svid, server_name: str | None) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{address!r} is no address: host:port.")
        self.address, self._host, self._port = address, host.strip("[]"), int(port)
        self._svid, self._server_name = svid, server_name or host.strip("[]")
        self.proven = False
        """Something was answered once. Before that nothing is tried twice: address or certificate may be wrong."""
        self._look_at = 0.0
        self._line: Line | None = self._made()
        self._retired = set[Line]()
        """They are closed when their last call ended."""
        self._closed = False

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """The connection for one call, connected. Raises Unavailable when nothing answers in ten seconds."""
        line = await self._current()
        line.running += 1
        try:
            await self._connect(line)
            yield line
        finally:
            line.running -= 1
            self._close_when_idle(line)

    def retire(self, line: Line) -> None:
        """Let no new call begin on it."""
        if self._line is line:
            self._line = None
        self._retired.add(line)
        self._close_when_idle(line)

    def lost(self, why: str) -> Unavailable:
        """The call broke off."""
        if self.proven:
            return lost(why)
        hint = "Is the address right, and the certificate one that is trusted there?"
        return Unavailable("ROOM_UNAVAILABLE", f"No answer from {self.address}: {why} {hint}")

    def close(self) -> None:
        """All of them, whatever still runs."""
        self._closed = True
        for line in (self._line, *self._retired):
            if line:
                line.channel.close()

    def _close_when_idle(self, line: Line) -> None:
        if line in self._retired and not line.running:
            self._retired.discard(line)
            line.channel.close()

    async def _current(self) -> Line:
        if self._closed:
            raise Unavailable("ROOM_UNAVAILABLE", f"The connection to {self.address} was closed here. Connect anew.")
        if self._line and time.monotonic() >= self._look_at and self._svid_changed(self._line):
            self._look_at = time.monotonic() + CONNECT_S  # meanwhile others go on with the old one
            await self._replace()
        if self._line and self._line.channel.is_leaving:
            self.retire(self._line)
        if self._line is None:
            self._line = self._made()
        return self._line

    def _svid_changed(self, line: Line) -> bool:
        try:
            return self._svid.stamp() != line.stamp
        except OSError:  # being replaced just now
            return False

    async def _replace(self) -> None:
        """The new connection before the old one: if it does not come up, things stay as they are for a moment."""
        fresh: Line | None = None
        try:
            fresh = self._made()
            await self._connect(fresh)
        except BaseException as fault:
            self._look_at = time.monotonic() + AGAIN_S
            if fresh:
                fresh.channel.close()
            if isinstance(fault, Unavailable):
                return
            raise
        if self._line:
            self.retire(self._line)
        self._line, self._look_at = fresh, 0.0

    def _made(self) -> Line:
        """A connection with the certificate as it is now, not yet dialled. Raises Unavailable when there is none."""
        try:
            stamp, context = self._svid.stamp(), self._svid.context()
        except (OSError, ssl.SSLError) as fault:
            raise Unavailable("ROOM_UNAVAILABLE", f"The certificate cannot be used: {fault}") from fault
        config = Configuration(ssl_target_name_override=self._server_name)
        channel = Channel(self._host, self._port, ssl=context, config=config, status_details_codec=Details())
        return Line(channel, stamp)

    async def _connect(self, line: Line) -> None:
        try:
            await apart(line.channel.__connect__(), CONNECT_S)
        except ssl.SSLCertVerificationError as fault:
            why = f"{self.address} shows a certificate that is not trusted, or not for {self._server_name}: {fault}"
            raise Unavailable("ROOM_UNAVAILABLE", why) from fault
        except TimeoutError as fault:
            raise self.lost(f"nothing in {CONNECT_S:.0f} s.") from fault
        except OSError as fault:
            raise self.lost(f"{str(fault) or type(fault).__name__}.") from fault
