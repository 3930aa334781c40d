"""When a started program can be used: one small check a kind of program, each a question over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.local.https import Https

DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Runs:
    """Ready when this command ends with 0."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replies:
    """Ready when the port answers these bytes with those."""

    port: int
    send: bytes
    expect: bytes


@dataclass(frozen=True, slots=True)
class Listens:
    """Ready when the port can be connected to: for programs that open it last."""

    port: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Ready when an HTTP GET is answered with 200."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Serves:
    """Ready when the room's gRPC health is SERVING, asked over mTLS."""

    room: str


Ready = Runs | Replies | Listens | Answers | Serves
AskHealth = Callable[[Serves], Awaitable[bool]]


async def is_ready(check: Ready, ask_health: AskHealth | None = None) -> bool:
    """Ask once, within the deadline. No answer is a no."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(DEADLINE_S):
            match check:
                case Runs(command):
                    return await _exit_code(command) == 0
                case Replies(port, send, expect):
                    return await _exchange(port, send, len(expect)) == expect
                case Listens(port):
                    return await _exchange(port, b"", 0) == b""
                case Answers(port, path):
                    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
                    return b" 200 " in await _exchange(port, request.encode(), len("HTTP/1.1 200 "))
                case Serves():
                    return ask_health is not None and await ask_health(check)
    return False


async def why_not_whole(edge_port: int, https: Https | None = None) -> str:
    """Ask the edge whether the mesh can answer a chat now: empty when it can, else a sentence on what is down."""
    host = https.host if https else "localhost"
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}:{edge_port}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(DEADLINE_S):
            answer = await _exchange(edge_port, request.encode(), None, https)
    except ssl.SSLCertVerificationError as error:
        return f"The edge's certificate is not believed: {error.verify_message}."
    except (OSError, TimeoutError):
        return "The edge does not answer."
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " in head[:16]:
        return ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["message"])
    return f"The edge answers {head[9:12].decode(errors='replace')}."


async def _exit_code(command: tuple[str, ...]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def _exchange(port: int, send: bytes, size: int | None, https: Https | None = None) -> bytes:
    """What the port answers: that many bytes, or all until it hangs up."""
    secured: dict[str, Any] = {"ssl": https.context(), "server_hostname": https.host} if https else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **secured)
    try:
        writer.write(send)
        return await (reader.read() if size is None else reader.readexactly(size))
    finally:
        writer.close()
