"""The workers' room: `python -m services.workers NAME…` does the named work until told to stop; without names, all."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from services.common.background import alongside
from services.common.config import RoomConfig
from services.common.log_engine import open_log
from services.common.server import open_ground, run, serve
from services.workers.bench import Bench
from services.workers.works import WORKS


class WorkersConfig(RoomConfig):
    archive_url: str = ""
    """Where the archive is: file:///folder or s3://bucket/prefix; empty for none."""
    siem_url: str = ""
    """Where the audit trail is told to: syslog+tls://host:6514 or https://…; empty for nowhere."""


async def main(config: WorkersConfig) -> None:
    names = sys.argv[1:] or list(WORKS)
    if unknown := [name for name in names if name not in WORKS]:
        sys.exit(f"There is no worker {unknown[0]!r}. There are: {', '.join(WORKS)}.")
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "workers"))
        log = await doors.enter_async_context(open_log(config.log_url, ground.db, ground.identity))
        bench = Bench(ground.db, log, ground.sight, config.keys_url, config.archive_url, config.siem_url)
        for name in names:
            await doors.enter_async_context(alongside(WORKS[name](bench), name=name))
        await serve(config, ground, [])


if __name__ == "__main__":
    run(main, WorkersConfig)
