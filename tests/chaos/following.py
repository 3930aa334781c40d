"""A process that follows the log: relay, consumer and sealer, or some of them, to be killed and stopped by tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

from prometheus_client import CollectorRegistry

from services.common.caller import WORKERS
from services.common.clock import SystemClock
from services.common.consumer.consumer import Consumer, Patience
from services.common.db import Database, Transaction, open_database
from services.common.log.kafka.log import open_kafka_log
from services.common.log.kafka.reading import Pulse
from services.common.log.log import Entry, Log
from services.common.log.postgres.log import open_postgres_log
from services.common.log.relaying import BATCH_S
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.bench import Bench
from services.workers.relay import Relay
from services.workers.sealer import sealer
from tests.consuming import TOPIC, Seeing, what_of

forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload([__name__])
PATIENCE = Patience(attempts=50, first_s=0.05, longest_s=0.2, look_s=0.05)
REPEAT_S = 0.2
REPEAT = """
INSERT INTO soma.outbox (id, tenant, aggregatetype, aggregateid, type, payload, slot, traceparent)
SELECT id, tenant, topic, key, type, payload, part, traceparent FROM soma.log
WHERE topic = 'agent.messages' AND time > now() - interval '1 second' ORDER BY time, "offset" LIMIT 20
"""
LEASE_S = 0.7
HASTY_BATCH_S = 1.5
"""Leases, sessions, deadlines and batches end sooner than in earnest. Not batches for Kafka: what one that is ended has
published stays there, and is published again."""
PULSE = Pulse(beat_s=0.1, session_s=1.0)


@dataclass(frozen=True, slots=True)
class Follower:
    url: str
    keys_url: str
    group: str
    works: Sequence[str] = ("relay", "consumer")
    environment: Mapping[str, str] | None = None
    log_url: str = ""
    """Empty: the log is in Postgres."""

    def start(self) -> ForkServerProcess:
        process = forking.Process(target=follow, args=(self,), daemon=True)
        process.start()
        return process


def follow(follower: Follower) -> None:
    os.environ |= {"SOMAGENT_MODE": "TEST"} | dict(follower.environment or {})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(work(follower))


async def work(follower: Follower) -> None:
    sight = Sight(Tracer(0.0), CollectorRegistry())
    async with (
        open_database(follower.url, follower.keys_url, SystemClock(), connections=10) as db,
        open_log(follower.log_url, db) as log,
        asyncio.TaskGroup() as tasks,
    ):
        group, batch_s = follower.group, BATCH_S if follower.log_url else HASTY_BATCH_S
        hasty = Consumer(
            db, log, sight, group, (TOPIC,), Seeing(group, before=Stumbling()), batch=20, deadline_s=1.0, slack_s=0.3,
            patience=PATIENCE, measure_s=0.5,
        )  # fmt: skip
        works: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "relay": Relay(db, log, sight, most=20, batch_s=batch_s).run,
            "consumer": hasty.run,
            "steady relay": Relay(db, log, sight).run,
            "steady consumer": Consumer(db, log, sight, group, (TOPIC,), Seeing(group)).run,
            "repeater": lambda: repeat(db),
            "sealer": lambda: sealer.work(Bench(db, log, sight, follower.keys_url)),
        }
        for name in follower.works:
            tasks.create_task(works[name]())


@asynccontextmanager
async def open_log(url: str, db: Database) -> AsyncIterator[Log]:
    """As services.common.log.engine does it, with less patience."""
    if url:
        async with open_kafka_log(url, None, pulse=PULSE) as kafka:
            yield kafka
    else:
        async with open_postgres_log(db, lease_s=LEASE_S) as log:
            yield log


async def repeat(db: Database) -> None:
    """What a relay does that is killed before it knows that it was heard: the same events come into the log again."""
    while True:
        async with db.own(WORKERS) as tx:
            await tx.execute(REPEAT)
        await asyncio.sleep(REPEAT_S)


class Stumbling:
    """Fails at each tenth event of somebody until it has failed alone, once."""

    def __init__(self) -> None:
        self._alone: set[str] = set()

    async def __call__(self, _tx: Transaction, entries: Sequence[Entry]) -> None:
        for what in map(what_of, entries):
            if what.endswith("0") and what not in self._alone:
                if len(entries) == 1:
                    self._alone.add(what)
                raise ValueError(f"stumbled over {what}")
