"""A server that says GOAWAY takes no new calls on this connection; those that it has taken go on (RFC 9113, 6.8).

grpclib, and h2 below it, take it for the end of all calls, and lose what came in the same read. So they do not see it,
unless it tells of an error.
"""

from __future__ import annotations

from typing import Any

from grpclib.protocol import H2Protocol

HEAD = 9
GOAWAY, NO_ERROR = 0x07, 0


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
            if data[at + 3] == GOAWAY and number(data, payload + 4) == NO_ERROR:
                kept.append(data[begin:at])
                begin, last = end, number(data, payload) & 0x7FFFFFFF
            at = end
        kept.append(data[begin:at])
        self._rest = data[at:]
        return b"".join(kept), last


class Protocol(H2Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_leaving = False
        """New calls belong on another connection."""
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        heard, last = self._frames.take(data)
        if heard:
            super().data_received(heard)
        if last is not None:
            self._leave(last)

    def _leave(self, last: int) -> None:
        """End the calls that the server has not taken: those above the last one."""
        self.is_leaving = True
        for id, stream in list(self.processor.streams.items()):
            if id > last:
                stream.__terminated__("The server had let go of the connection before it took the call.")


def number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
