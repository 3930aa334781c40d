"""A provider that speaks OpenAI's wire as fast as one process can, so that no gateway waits for it:

    python -m tests.bench.upstream

Answers are bytes that were made beforehand. A stream's first chunk is sent at once, with the headers; the others one a
write, or all in one after POST /joined (POST /apart to undo). GET /told says what it was asked for, and its CPU.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvloop

CHUNKS = 64
MODEL = "fake-1"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream": *true')
USAGE = {"prompt_tokens": 24, "completion_tokens": CHUNKS, "total_tokens": 24 + CHUNKS}
WORDS = ["word1", *(f" word{n}" for n in range(2, CHUNKS + 1))]
WAIT_S = 10.0


def body(**facts: object) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "created": 1_700_000_000, "model": MODEL} | facts).encode()


def answer(content: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def piece(data: bytes) -> bytes:
    """A server-sent event in an HTTP chunk of its own."""
    event = b"data: " + data + b"\n\n"
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def delta(**said: str) -> bytes:
    choice = {"index": 0, "delta": said, "finish_reason": None}
    return piece(body(object="chat.completion.chunk", choices=[choice]))


SPOKEN = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
WHOLE = answer(body(object="chat.completion", choices=[SPOKEN], usage=USAGE))
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST, *OTHERS = delta(role="assistant", content=WORDS[0]), *(delta(content=word) for word in WORDS[1:])
FINISH = piece(body(object="chat.completion.chunk", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
COUNTED = piece(body(object="chat.completion.chunk", choices=[], usage=USAGE))
END = piece(b"[DONE]") + b"0\r\n\r\n"
BEGUN = STREAM_HEAD + FIRST
APART = {with_usage: [*OTHERS, FINISH + (COUNTED if with_usage else b"") + END] for with_usage in (False, True)}
JOINED = {with_usage: [b"".join(pieces)] for with_usage, pieces in APART.items()}


@dataclass(slots=True)
class Told:
    """What it was asked for."""

    calls: int = 0
    streams: int = 0
    cpu_s: float = 0.0


@dataclass(slots=True)
class Manners:
    told: Told = field(default_factory=Told)
    pieces: dict[bool, list[bytes]] = field(default_factory=lambda: APART)


class Speaker(asyncio.Protocol):
    """One connection, its requests one after the other."""

    def __init__(self, manners: Manners) -> None:
        self.manners, self.rest = manners, b""
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at = data.find(b"\r\n\r\n")
        length = LENGTH.search(data, 0, at + 1) if at >= 0 else None
        size = at + 4 + (int(length[1]) if length else 0)
        if at < 0 or len(data) < size:
            self.rest = data
            return
        self.rest = data[size:]
        if data.startswith(b"POST /v1/chat/completions "):
            self.complete(data)
        else:
            self.transport.write(answer(self.tell(data)))

    def complete(self, request: bytes) -> None:
        self.manners.told.calls += 1
        if not STREAM.search(request):
            self.transport.write(WHOLE)
            return
        self.manners.told.streams += 1
        self.transport.write(BEGUN)
        self.loop.call_soon(self.speak, iter(self.manners.pieces[b'"include_usage"' in request]))

    def speak(self, pieces: Iterator[bytes]) -> None:
        """One a turn of the loop: uvloop joins the writes of a turn."""
        data = next(pieces, None)
        if data is not None and not self.transport.is_closing():
            self.transport.write(data)
            self.loop.call_soon(self.speak, pieces)

    def tell(self, request: bytes) -> bytes:
        if request.startswith(b"POST"):
            self.manners.pieces = JOINED if request.startswith(b"POST /joined ") else APART
        told = self.manners.told
        return json.dumps({"calls": told.calls, "streams": told.streams, "cpu_s": time.process_time()}).encode()


@dataclass(frozen=True, slots=True)
class Upstream:
    """The provider in a process of its own."""

    port: int
    pid: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def ask(self, path: str, data: bytes | None = None) -> Told:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=WAIT_S) as said:
            return Told(**json.load(said))

    def told(self) -> Told:
        return self.ask("/told")

    def speak(self, *, joined: bool) -> None:
        self.ask("/joined" if joined else "/apart", b"")


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        port = process.stdout.readline()
        assert port, "the upstream did not start"
        yield Upstream(int(port), process.pid)
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


async def serve() -> None:
    manners = Manners()
    server = await asyncio.get_running_loop().create_server(lambda: Speaker(manners), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
