"""The local model process, as the mesh starts it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

COMMAND = (sys.executable, "-m", "services.local.model")


@asynccontextmanager
async def running_model(health_port: int, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, env=os.environ | environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until_healthy(health_port)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_healthy(port: int) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def ended(**environment: str) -> tuple[int | None, str]:
    """The exit code and the words on stderr of a process that cannot serve."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, env=os.environ | environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()
