"""When a started program can be used: one small check a kind of program, each a question over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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
class Answers:
    """Ready when an HTTP GET is answered with 200."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Serves:
    """Ready when the room's gRPC health is SERVING, asked over mTLS."""

    port: int
    room: str


Ready = Runs | Replies | Answers | Serves
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
                case Answers(port, path):
                    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
                    return b" 200 " in await _exchange(port, request.encode(), len("HTTP/1.1 200 "))
                case Serves():
                    return ask_health is not None and await ask_health(check)
    return False


async def _exit_code(command: tuple[str, ...]) -> int:
    process = await asyncio.create_subprocess_exec(*command, stdout=-3, stderr=-3)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def _exchange(port: int, send: bytes, size: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(send)
        return await reader.readexactly(size)
    finally:
        writer.close()
