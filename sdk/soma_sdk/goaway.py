"""A server that says GOAWAY takes no new calls on this connection; those that it has taken go on (RFC 9113, 6.8).

grpclib, and h2 below it, take it for the end of all calls, and lose what came in the same read. So they do not see it,
unless it tells of an error.
"""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Callable

from grpclib.protocol import EventsProcessor, H2Protocol, Stream

from soma_sdk.errors import NotTaken

HEAD, LEAST = 9, 8
GOAWAY, NO_ERROR = 0x07, 0
ALL = 2**31 - 1


class Frames:
    """Cuts what comes in into whole frames, and takes those out that say GOAWAY without an error."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> tuple[bytes, int | None]:
        """The other frames, and the last stream that the server says it has taken, if it does. A frame's head has 3
        bytes of length, 1 of type, 1 of flags and 4 of stream."""
        data, begin, at = self._rest + data, 0, 0
        kept, last = list[bytes](), None
        while (payload := at + HEAD) <= len(data):
            end = payload + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            if data[at + 3] == GOAWAY and end - payload >= LEAST and number(data, payload + 4) == NO_ERROR:
                kept.append(data[begin:at])
                begin, last = end, number(data, payload) & ALL
            at = end
        kept.append(data[begin:at])
        self._rest = data[at:]
        return b"".join(kept), last


class Processor(EventsProcessor):
    """Ends the calls that the server does not take, above the last one, also those that come only now."""

    last = ALL

    def register(self, stream: Stream) -> Callable[[], None]:
        if (stream.id or 0) > self.last:
            stream.reset_nowait()
            self.connection.stream_close_waiter.set()  # it leaves its place to the next that waits for one
            raise not_taken()
        return super().register(stream)

    def leave(self, last: int) -> None:
        self.last = last
        for id, stream in list(self.streams.items()):
            if id > last and stream.wrapper:
                stream.wrapper.cancel(not_taken())


class Protocol(H2Protocol):
    processor: Processor
    is_leaving = False
    """New calls belong on another connection."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.processor, self._frames = Processor(self.handler, self.connection), Frames()

    def data_received(self, data: bytes) -> None:
        heard, last = self._frames.take(data)
        if heard:
            super().data_received(heard)
        if last is not None:
            self.is_leaving = True
            self.processor.leave(last)


def not_taken() -> NotTaken:
    why = "The server let go of the connection before it took the call."
    return NotTaken("ROOM_UNAVAILABLE", why, retry_after_s=0.0)


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
