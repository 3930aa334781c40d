"""The relay: moves what rooms have told from the outbox into the log, in order per key, a batch a transaction.

One leads each shard, for one batch at a time, by a lock of its transaction: who dies or stands still loses it, and
nothing is half done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from services.common import crash
from services.common.bell import RUNG
from services.common.caller import WORKERS
from services.common.db import Database
from services.common.ears import Ear, Ears, open_ears
from services.common.errors import Unavailable
from services.common.log.log import Drained, Log, Shard, Unpublishable
from services.common.log.relaying import BATCH_S, lead, put_back, set_aside
from services.common.telemetry import Sight, log
from services.workers.bench import Bench

MOST = 2000
LOOK_S = 1.0
"""How long nobody needs to ring."""
PACE_S = 0.03
"""From the beginning of one batch to that of the next without a backlog: what comes meanwhile goes together."""
TOPICS_S = 3600.0

LAG = "SELECT extract(epoch FROM clock_timestamp() - create_time) AS lag FROM soma.outbox ORDER BY seq LIMIT 1"
FIRST = "SELECT seq, aggregatetype FROM soma.outbox WHERE slot % $2::int = $1::int ORDER BY seq LIMIT 1"


async def relay(bench: Bench) -> None:
    await Relay(bench.db, bench.log, bench.sight).run()


@dataclass(frozen=True, slots=True)
class Relay:
    db: Database
    log: Log
    sight: Sight
    shards: int = 1
    most: int = MOST
    batch_s: float = BATCH_S

    async def run(self) -> None:
        """Until cancelled. It goes on by itself when a store has been away."""
        async with open_ears(self.db, RUNG) as ears:
            await self._until_done(self._begin)
            async with asyncio.TaskGroup() as group:
                for number in range(self.shards):
                    group.create_task(self._follow(Shard(number, self.shards), ears))
                group.create_task(self._measure())
                group.create_task(self._make_topics())

    async def step(self, shard: Shard, most: int) -> int:
        """One batch. How many rows have left the outbox: none when another leads."""
        async with self.db.own(WORKERS) as tx:
            if not await lead(tx, shard, self.batch_s):
                return 0
            crash.here("relay: led")
            drained = await self.log.drain(tx, shard, most)
            crash.here("relay: moved")
        crash.here("relay: committed")
        self._count(drained)
        return drained.count

    async def _follow(self, shard: Shard, ears: Ears) -> None:
        with ears.ear(RUNG, "") as bell:
            most = self.most
            while True:
                most = await self._go_on(shard, most, bell)

    async def _go_on(self, shard: Shard, most: int, bell: Ear) -> int:
        """One batch, and a pause unless there is more. How many to try next: a row that cannot be published is looked
        for by halves."""
        bell.forget()
        again = time.monotonic() + PACE_S
        try:
            gone = await self.step(shard, most)
        except Unpublishable as fault:
            if most > 1:
                return most // 2
            reason = str(fault)
            await self._until_done(lambda: self._set_first_aside(shard, reason))
            return self.most
        except Unavailable as away:
            log().warning("the relay waits", why=str(away.__cause__ or away))
            await asyncio.sleep(LOOK_S)
            return most
        if gone < most:
            await bell.wait(LOOK_S)
            await asyncio.sleep(again - time.monotonic())
        return most if gone == most else self.most

    async def _set_first_aside(self, shard: Shard, reason: str) -> None:
        async with self.db.own(WORKERS) as tx:
            if not await lead(tx, shard, self.batch_s):
                return
            row = await tx.fetchrow(FIRST, shard.number, shard.of)
            if row is None:
                return
            await set_aside(tx, [row["seq"]], reason)
        self._count(Drained({}, {row["aggregatetype"]: 1}))

    async def _begin(self) -> None:
        """What was set aside gets another chance with each start: the release or the brokers may be others."""
        await self.log.make_topics()
        async with self.db.own(WORKERS) as tx:
            await put_back(tx)

    async def _make_topics(self) -> None:
        while True:
            await asyncio.sleep(TOPICS_S)
            await self._until_done(self.log.make_topics)

    async def _measure(self) -> None:
        while True:
            with suppress(Unavailable):
                rows = await self.db.look(LAG)
                self.sight.relay_lag_seconds.set(max(0.0, rows[0]["lag"]) if rows else 0)
            await asyncio.sleep(LOOK_S)

    async def _until_done(self, deed: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await deed()
            except Unavailable as away:
                log().warning("the relay waits", why=str(away.__cause__ or away))
                await asyncio.sleep(LOOK_S)
            else:
                return

    def _count(self, drained: Drained) -> None:
        for topic, count in drained.moved.items():
            self.sight.relay_events.labels(topic).inc(count)
        for topic, count in drained.aside.items():
            self.sight.relay_aside.labels(topic).inc(count)
            log().error("events set aside that no log takes", topic=topic, count=count)
