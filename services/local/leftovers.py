"""What a supervisor that was killed left running: written down while it lived, ended by the next one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from services.local.files import write_whole
from services.local.process import Process, stop

FILE = "processes.json"


def write(run: Path, processes: Sequence[Process]) -> None:
    listed = json.dumps([[process.pid, process.born] for process in processes])
    write_whole(run / FILE, listed.encode(), lasting=False)


def read(run: Path) -> list[Process]:
    """The processes written down last that still live."""
    try:
        written = [Process(int(pid), str(born)) for pid, born in json.loads((run / FILE).read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
    return [process for process in written if process.is_alive]


async def clear(run: Path) -> int:
    """End what a dead supervisor left; returns how many there were."""
    left = read(run)  # SIGINT ends Postgres at once, and the others too
    await asyncio.gather(*(stop(process, signal.SIGINT, 5) for process in left))
    return len(left)
