"""A real Valkey on one machine: its settings, its command, and one that runs for as long as a block."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.local.fault import Fault
from services.local.ports import free_port
from services.local.process import Process, stop
from services.local.ready import Replies, is_ready
from services.local.wheels import valkey_program

START_S = 20.0

SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
aof-load-truncated yes
auto-aof-rewrite-min-size 16mb
save ""
maxmemory 256mb
maxmemory-policy volatile-ttl
loglevel notice
logfile ""
"""


def command(settings: Path) -> tuple[str, ...]:
    """The server in the foreground; it writes its log to stdout. SIGTERM stops it in order."""
    return (str(valkey_program()), str(settings))


def prepare(folder: Path, settings: Path, port: int, password: str) -> None:
    """Write the settings, which hold the password and are for the owner's eyes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.touch(mode=0o600)
    settings.write_text(SETTINGS.format(port=port, password=password, folder=f'"{folder.absolute()}"'))


def ready(port: int, password: str) -> Replies:
    """AUTH and PING are answered once the data is loaded."""
    return Replies(port, f"AUTH {password}\r\nPING\r\n".encode(), b"+OK\r\n+PONG\r\n")


def url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


@asynccontextmanager
async def running_valkey(folder: Path, port: int = 0) -> AsyncIterator[str]:
    """A server in a folder of its own for as long as the block; yields its URL."""
    port, password = port or free_port(), secrets.token_urlsafe(18)
    settings = folder.with_name(f"{folder.name}.conf")
    prepare(folder, settings, port, password)
    server = await asyncio.create_subprocess_exec(*command(settings), start_new_session=True)
    process = Process.of(server.pid)
    try:
        async with asyncio.timeout(START_S):
            while not await is_ready(ready(port, password)):
                if server.returncode is not None:
                    raise Fault(f"Valkey ended with {server.returncode} instead of starting.")
                await asyncio.sleep(0.01)
        yield url(port, password)
    finally:
        if process:
            await stop(process)
        await server.wait()
