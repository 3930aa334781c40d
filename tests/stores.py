"""A real Postgres and a real Valkey, each in a folder of its own for as long as a block."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.local import postgres, valkey
from services.local.ports import free_port
from services.local.process import Process, stop
from services.local.ready import Ready, Runs, is_ready

START_S = 20.0


@asynccontextmanager
async def running_postgres(folder: Path) -> AsyncIterator[str]:
    """Yields the administrator's URL. Killed or not, the next one in the same folder has its rows and its password."""
    port, password = free_port(), kept_password(folder)
    await postgres.prepare(folder, password)
    ready = Runs(postgres.ready_command(port))
    async with running(postgres.command(folder, port), ready, signal.SIGINT):
        yield postgres.url(port, password)


@asynccontextmanager
async def running_valkey(folder: Path) -> AsyncIterator[str]:
    port, password, settings = free_port(), secrets.token_urlsafe(18), folder.with_name(f"{folder.name}.conf")
    valkey.prepare(folder, settings, port, password)
    async with running(valkey.command(settings), valkey.ready(port, password), signal.SIGTERM):
        yield valkey.url(port, password)


@asynccontextmanager
async def running(command: tuple[str, ...], ready: Ready, end: signal.Signals) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    process = Process.of(server.pid)
    try:
        async with asyncio.timeout(START_S):
            while not await is_ready(ready):
                assert server.returncode is None, f"{command[0]} ended with {server.returncode} instead of starting"
                await asyncio.sleep(0.01)
        yield
    finally:
        if process:
            await stop(process, end)
        await server.wait()


def kept_password(folder: Path) -> str:
    """In a file beside the folder."""
    file = folder.with_name(f"{folder.name}.password")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(18))
    return file.read_text()
