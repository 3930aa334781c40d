"""An address of this machine that nobody should ever ask for anything: it hears each connection and each datagram."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Canary:
    port: int
    heard: list[str] = field(default_factory=list)
    """What came, by its first line."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def in_place(self, text: str) -> str:
        """The text with this address where it says CANARY."""
        return text.replace("CANARY", self.address)


@contextmanager
def listening() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        canary = Canary(stream.getsockname()[1])
        packets.bind(("127.0.0.1", canary.port))
        over = threading.Event()
        listener = threading.Thread(target=listen, args=(canary, stream, packets, over), daemon=True)
        listener.start()
        yield canary
        over.set()
        listener.join(10)


def listen(canary: Canary, stream: socket.socket, packets: socket.socket, over: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        for each in (stream, packets):
            selector.register(each, selectors.EVENT_READ)
        while not over.is_set():
            for key, _ in selector.select(0.1):
                if key.fileobj is packets:
                    canary.heard.append(f"datagram of {len(packets.recv(2048))} bytes")
                else:
                    hear_first_line(stream, canary.heard)


def hear_first_line(stream: socket.socket, heard: list[str]) -> None:
    """It stands in what was heard before the other side can see the connection's end."""
    connection, _ = stream.accept()
    with connection:
        line = b""
        with suppress(OSError):
            connection.settimeout(5)
            line = connection.recv(2048).split(b"\r\n")[0]
        heard.append(line.decode(errors="replace") or "a connection")
