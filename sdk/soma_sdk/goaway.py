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
    """Lets go of the calls that a leaving server does not take: those above its last one, those that wait for a place,
    and those that come only now."""

    is_leaving = False

    def register(self, stream: Stream) -> Callable[[], None]:
        if self.is_leaving:
            stream.reset_nowait()
            raise not_taken()
        return super().register(stream)

    def leave(self, last: int) -> None:
        self.is_leaving = True
        settings = self.connection._connection.remote_settings
        settings.max_concurrent_streams = ALL
        settings.acknowledge()
        self.connection.stream_close_waiter.set()  # who waits for a place has one, and is told in register
        for id, stream in list(self.streams.items()):
            if id > last and stream.wrapper:
                stream.wrapper.cancel(not_taken())


class Protocol(H2Protocol):
    processor: Processor

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.processor, self._frames = Processor(self.handler, self.connection), Frames()

    def data_received(self, data: bytes) -> None:
        heard, last = self._frames.take(data)
        if heard:
            super().data_received(heard)
        if last is not None:
            self.processor.leave(last)


def not_taken() -> NotTaken:
    why = "The server let go of the connection before it took the call."
    return NotTaken("ROOM_UNAVAILABLE", why, retry_after_s=0.0)


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
