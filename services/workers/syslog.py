"""Syslog over TLS: RFC 5424 messages, each after its length (RFC 5425).

The protocol has no receipt. A batch counts as sent when the receiver's host has acknowledged all its bytes; what that
host loses before its program reads it is lost there. Who needs a receipt takes the webhook.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import socket
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from services.common.errors import Unavailable

PORT = 6514
FACILITY, INFORMATIONAL, NOTICE = 13, 6, 5
"""13 is "log audit"."""
LOOK_S = 0.005
UNPRINTABLE = re.compile(r"[^!-~]")


def message(event: Mapping[str, Any], host: str) -> bytes:
    """An OCSF event as a syslog message; its MSGID is the action. What was refused is a notice, the rest is for
    information. RFC 5424 wants a BOM before text that is known to be UTF-8; receivers of JSON do not, so there is none,
    which it allows."""
    priority = FACILITY * 8 + (INFORMATIONAL if event["status_id"] == 1 else NOTICE)
    time, msgid = event["metadata"]["original_time"], word(event["metadata"]["event_code"], 32)
    return f"<{priority}>1 {time} {word(host, 255)} soma - {msgid} - ".encode() + msgspec.json.encode(event)


def framed(message: bytes) -> bytes:
    return f"{len(message)} ".encode() + message


def word(text: str, most: int) -> str:
    """Printable ASCII without spaces; "-" stands for nothing."""
    return UNPRINTABLE.sub("_", text)[:most] or "-"


@dataclass(slots=True)
class Syslog:
    """One connection, opened when there is something to send, and anew when it is lost."""

    host: str
    port: int
    context: ssl.SSLContext
    send_s: float
    _stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All of them, in order. Raises Unavailable: then some of them may have arrived."""
        content = b"".join(framed(message(event, socket.gethostname())) for event in events)
        try:
            async with asyncio.timeout(self.send_s):
                await deliver(await self._connected(), content)
        except (OSError, ValueError) as fault:
            self.close()
            raise Unavailable("ROOM_UNAVAILABLE", f"The SIEM at {self.host} takes nothing: {fault!r}") from fault
        except BaseException:
            self.close()  # half a message may be in it
            raise

    def close(self) -> None:
        if self._stream:
            self._stream[1].transport.abort()
        self._stream = None

    async def _connected(self) -> asyncio.StreamWriter:
        if self._stream and self._stream[0].at_eof():
            self.close()
        if not self._stream:
            self._stream = await asyncio.open_connection(self.host, self.port, ssl=self.context)
            self._stream[1].transport.set_write_buffer_limits(high=0)
        return self._stream[1]


@asynccontextmanager
async def open_syslog(host: str, port: int, context: ssl.SSLContext, send_s: float) -> AsyncIterator[Syslog]:
    syslog = Syslog(host, port, context, send_s)
    try:
        yield syslog
    finally:
        syslog.close()


async def deliver(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Until the other host has acknowledged every byte, as far as this system can tell."""
    writer.write(content)
    await writer.drain()
    while unacknowledged(writer) and not writer.is_closing():
        await asyncio.sleep(LOOK_S)
    if writer.is_closing():
        raise ConnectionResetError("the connection was lost")


def unacknowledged(writer: asyncio.StreamWriter) -> int:
    with suppress(OSError):
        answer = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])
    return 0
