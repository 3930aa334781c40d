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
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from services.common.errors import Unavailable

PORT = 6514
FACILITY, INFORMATIONAL, NOTICE = 13, 6, 5
"""13 is "log audit"."""
LOOK_S = 0.005
ESTABLISHED = 1
MOST_AT_ONCE = 64 * 1024
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
    """One connection, opened when there is something to send, and anew when it is lost. It is written to by a thread:
    event loops do not tell what has left them."""

    host: str
    port: int
    context: ssl.SSLContext
    send_s: float
    _link: ssl.SSLSocket | None = None

    async def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All of them, in order. Raises Unavailable: then some of them may have arrived."""
        content = b"".join(framed(message(event, socket.gethostname())) for event in events)
        try:
            await asyncio.to_thread(self._deliver, content, monotonic() + self.send_s)
        except OSError as fault:
            self.close()  # half a message may be in it
            raise Unavailable("ROOM_UNAVAILABLE", f"The SIEM at {self.host} takes nothing: {fault!r}") from fault
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        link, self._link = self._link, None
        if link:
            with suppress(OSError):
                link.setblocking(False)
                while link.recv(MOST_AT_ONCE):  # what nobody has read makes the system reset the connection
                    pass
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _deliver(self, content: bytes, deadline: float) -> None:
        """Until the other host has acknowledged every byte, as far as this system can tell. Raises OSError when it has
        hung up by then: a connection that is reset owes nothing any more, and has lost it."""
        if self._link and not is_whole(self._link):
            self.close()
        link = self._link = self._link or self._connect(deadline)
        rest = memoryview(content)
        while rest:
            link.settimeout(left(deadline))
            rest = rest[link.send(rest[:MOST_AT_ONCE]) :]
        while unacknowledged(link):
            time.sleep(min(LOOK_S, left(deadline)))
        if not is_whole(link):
            raise ConnectionResetError("the connection was lost")

    def _connect(self, deadline: float) -> ssl.SSLSocket:
        plain = socket.create_connection((self.host, self.port), left(deadline))
        return self.context.wrap_socket(plain, server_hostname=self.host)


@asynccontextmanager
async def open_syslog(host: str, port: int, context: ssl.SSLContext, send_s: float) -> AsyncIterator[Syslog]:
    syslog = Syslog(host, port, context, send_s)
    try:
        yield syslog
    finally:
        syslog.close()


def left(deadline: float) -> float:
    """Seconds. TimeoutError when there are none."""
    if (seconds := deadline - monotonic()) <= 0:
        raise TimeoutError("it takes too long")
    return seconds


def unacknowledged(link: socket.socket) -> int:
    """Bytes."""
    return int(struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])


def is_whole(link: socket.socket) -> bool:
    """Whether neither side has closed it."""
    return link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
