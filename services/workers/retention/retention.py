"""Retention: what is old, read by all and archived leaves the log; old marks of consumers and old calls go."""

from __future__ import annotations

import asyncio

from services.common.blobs import open_blobs
from services.common.caller import WORKERS
from services.common.clock import SystemClock
from services.common.consumer import marks
from services.common.errors import Unavailable
from services.common.log.topics import TOPICS
from services.common.telemetry import log
from services.workers.bench import Bench
from services.workers.retention.calls import Calls
from services.workers.retention.days import Days
from services.workers.retention.records import Records, Trimmed

EVERY_S = 3600.0


async def work(bench: Bench) -> None:
    keeper, calls = keeper_of(bench), Calls(bench.db, bench.decision_days, bench.ledger_days)
    while True:
        try:
            async with bench.db.own(WORKERS) as tx:
                await marks.roll(tx)
            await calls.sweep()
            await keeper.sweep()
        except Unavailable as away:
            log().warning("retention waits", why=away.message)
        await asyncio.sleep(EVERY_S)


def keeper_of(bench: Bench) -> Days | Records:
    blobs = open_blobs(bench.archive_url) if bench.archive_url else None
    if blobs is None:
        log().warning("without an archive, what all have read leaves the log by its age alone")
    days = {topic.name: topic.days for topic in TOPICS.values()}
    if isinstance(bench.log, Trimmed):
        return Records(bench.db, bench.log, blobs, days, SystemClock())
    return Days(bench.db, blobs, days)
