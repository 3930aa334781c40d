"""The workers' room: `python -m services.workers NAME…` does the named work until told to stop; without names, all."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from services.common.background import alongside
from services.common.config import RoomConfig
from services.common.log.engine import open_log
from services.common.log.log import Log
from services.common.modes import ALLOWS
from services.common.server import Ground, Served, open_ground, run, serve
from services.workers.bench import Bench
from services.workers.crew import Crew
from services.workers.retention.calls import DECISION_DAYS, LEAST_DAYS, LEDGER_DAYS, MOST_DAYS
from services.workers.works import WORKS


class WorkersConfig(RoomConfig, frozen=True, kw_only=True):
    archive_url: Annotated[str, Meta(pattern=r"^(file:///.+|s3://.+)?$")] = ""
    """Where the archive is: file:///folder or s3://bucket/prefix; empty for none."""
    archive_age_s: Annotated[float, Meta(gt=0)] = 3600
    """No event waits longer for its place in the archive."""
    siem_url: Annotated[str, Meta(pattern=r"^(syslog\+tls://.+|https://.+)?$")] = ""
    """Where the audit trail is told to: syslog+tls://host:6514 or https://…; empty for nowhere."""
    siem_ca: Path | None = None
    """The PEM file of the CA that the SIEM's certificate is of; absent: those that this machine trusts."""
    siem_token_file: Path | None = None
    """The file of the webhook's bearer token."""
    reconcile_s: Annotated[float, Meta(gt=0)] = 300
    """How often the log is held against Postgres, the archive and Valkey."""
    trainer: Literal["on", "off", "by-mode"] = "by-mode"
    """Whether policies are learned from feedback: by-mode as services/common/modes.py has it."""
    train_s: Annotated[float, Meta(gt=0)] = 5.0
    """How often is looked whether there is enough feedback to learn from."""
    decision_days: Annotated[int, Meta(ge=LEAST_DAYS, le=MOST_DAYS)] = DECISION_DAYS
    """How long decisions are kept, and what was said of them."""
    ledger_days: Annotated[int, Meta(ge=LEAST_DAYS, le=MOST_DAYS)] = LEDGER_DAYS
    """How far back spending can be listed."""

    @property
    def trains(self) -> bool:
        return ALLOWS[self.mode].trains if self.trainer == "by-mode" else self.trainer == "on"


TRAINER = "trainer"
ROOM = Served("", lambda _servicer, _server: None, None)
"""There is nothing to call here: health tells of the work alone."""


async def main(config: WorkersConfig) -> None:
    names = sys.argv[1:] or [name for name in WORKS if name != TRAINER or config.trains]
    if unknown := [name for name in names if name not in WORKS]:
        sys.exit(f"There is no worker {unknown[0]!r}. There are: {', '.join(WORKS)}.")
    if TRAINER in names and not config.trains:
        sys.exit(f"Nothing is learned in mode {config.mode} as it is set up. SOMA_TRAINER=on lets the trainer work.")
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "workers"))
        log = await doors.enter_async_context(open_log(config.log_url, ground.db, ground.identity))
        bench, crew = bench_of(config, ground, log), Crew()
        work = crew.work({name: partial(WORKS[name], bench) for name in names})
        await doors.enter_async_context(alongside(work, name="crew"))
        await serve(config, ground, [ROOM], able=crew.is_well)


def bench_of(config: WorkersConfig, ground: Ground, log: Log) -> Bench:
    return Bench(
        ground.db, log, ground.sight, config.keys_url, config.archive_url, config.siem_url,
        timedelta(seconds=config.archive_age_s), config.siem_ca, config.siem_token_file,
        config.cache_url, config.reconcile_s, config.train_s, config.decision_days, config.ledger_days,
    )  # fmt: skip


if __name__ == "__main__":
    run(main, WorkersConfig)
