"""A process that follows the log: relay, consumer and sealer, or some of them, to be killed and stopped by tests."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.common.consumer import Consumer, Patience
from services.common.db import Transaction, open_database
from services.common.log import Entry
from services.common.log_postgres import open_postgres_log
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers import sealer
from services.workers.bench import Bench
from services.workers.relay import Relay
from tests.consuming import TOPIC, Seeing, what_of

forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload([__name__])
PATIENCE = Patience(attempts=50, first_s=0.05, longest_s=0.2, look_s=0.05)
SLOW_S = 1.0
"""Leases, deadlines and batches of the tests end sooner than in earnest."""


@dataclass(frozen=True, slots=True)
class Follower:
    url: str
    keys_url: str
    group: str
    works: Sequence[str] = ("relay", "consumer")
    environment: Mapping[str, str] | None = None

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
        open_postgres_log(db, lease_s=SLOW_S) as log,
        asyncio.TaskGroup() as tasks,
    ):
        consumer = Consumer(
            db, log, sight, follower.group, (TOPIC,), Seeing(follower.group, before=Stumbling()), batch=20,
            deadline_s=SLOW_S, patience=PATIENCE,
        )  # fmt: skip
        works: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "relay": Relay(db, log, sight, most=50, batch_s=2 * SLOW_S).run,
            "consumer": consumer.run,
            "sealer": lambda: sealer.work(Bench(db, log, sight, follower.keys_url)),
        }
        for name in follower.works:
            tasks.create_task(works[name]())


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
