"""A member of a consumer group. It commits by hand, after the handler's own transaction; what it loses in a rebalance
it forgets, and what it finds again begins at what is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.common.db import Transaction
from services.common.errors import Unavailable
from services.common.log.gathering import Gathering
from services.common.log.kafka.entries import entries
from services.common.log.kafka.link import Link, kafka_errors, stop
from services.common.log.log import Entry, LeaseLost, Place
from services.common.telemetry import log

REQUEST_S = 12.0
"""Longer than a session: a join waits for a member that is gone until its session ends."""
COMMIT_S = 5.0
AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """How often a member is heard of, and when it is given up: not within the broker's group.min.session.timeout.ms."""

    beat_s: float = 1.0
    session_s: float = 10.0


STEADY = Pulse()


@dataclass(frozen=True, slots=True)
class Member:
    """Implements log.Reader."""

    consumer: Any
    owed: dict[Any, int] = field(default_factory=dict)
    """What could not be committed when it was done: a broker was away. It goes with the next."""
    begun: set[Any] = field(default_factory=set)
    """Partitions in which the group is known to stand somewhere."""
    gathering: Gathering = field(default_factory=Gathering)

    async def fetch(self, most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        if new := self.consumer.assignment() - self.begun:
            await self._begin(new)
        if self.owed:
            await self._settle()
        end = time.monotonic() + within_s
        if not await self.gathering.over(end):
            return ()
        with kafka_errors():
            left_ms = max(0, int((end - time.monotonic()) * 1000))
            found = await self.consumer.getmany(timeout_ms=left_ms, max_records=most)
        if found and all(self._ends_with(where, records) for where, records in found.items()):
            self.gathering.begin()
        return [run for records in found.values() if (run := entries(records))]

    async def hold(self, tx: Transaction, run: Sequence[Entry]) -> None:  # noqa: ARG002
        """As far as this process knows. What another member does twice meanwhile is known by its id."""
        if TopicPartition(*run[-1].place) not in self.consumer.assignment():
            raise LeaseLost

    async def commit(self, run: Sequence[Entry]) -> None:
        self.owed[TopicPartition(*run[-1].place)] = run[-1].offset + 1
        await self._settle()

    async def rewind(self, place: Place) -> None:
        where = TopicPartition(*place)
        with kafka_errors():
            async with asyncio.timeout(COMMIT_S):
                if where not in self.consumer.assignment():
                    return
                try:
                    await rewind(self.consumer, where)
                except IllegalStateError:  # lost meanwhile
                    return

    def _ends_with(self, where: Any, records: Sequence[Any]) -> bool:
        """Whether nothing is behind these in their partition, as far as the broker has told."""
        return not records or records[-1].offset + 1 >= (self.consumer.highwater(where) or 0)

    async def _begin(self, new: set[Any]) -> None:
        """A group that is new stands at the beginning, and can be seen to, before it has done anything."""
        try:
            async with asyncio.timeout(COMMIT_S):
                bare = [where for where in new if await self.consumer.committed(where) is None]
                for where, first in (await self.consumer.beginning_offsets(bare)).items() if bare else ():
                    self.owed.setdefault(where, first)
        except (KafkaError, TimeoutError):
            return
        self.begun.update(new)

    async def _settle(self) -> None:
        """Commit what is done. Brokers that are away get it later; until then it may be given out again elsewhere."""
        owed, mine = dict(self.owed), self.consumer.assignment()
        offsets = {where: offset for where, offset in owed.items() if where in mine}
        try:
            async with asyncio.timeout(COMMIT_S):
                if offsets:
                    await self.consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            pass  # the group has shared out its partitions anew: who has them reads on from what was committed
        except (KafkaError, TimeoutError) as fault:
            log().warning("offsets wait for the broker", why=str(fault) or type(fault).__name__)
            return
        for where, offset in owed.items():
            if self.owed.get(where) == offset:
                del self.owed[where]


async def rewind(consumer: Any, where: Any) -> None:
    committed = await consumer.committed(where)
    if committed is None:
        await consumer.seek_to_beginning(where)
    else:
        consumer.seek(where, committed)


@asynccontextmanager
async def join(
    link: Link, group: str, topics: Sequence[str], pulse: Pulse, gathering: Gathering | None = None
) -> AsyncIterator[Member]:
    """Be a member for as long as the block. Waits for brokers that are away. The topics must be there."""
    consumer = await joined(link, group, topics, pulse)
    try:
        yield Member(consumer, gathering=gathering or Gathering())
    finally:
        await stop(consumer)


async def joined(link: Link, group: str, topics: Sequence[str], pulse: Pulse) -> Any:
    while True:
        try:
            with kafka_errors():
                return await started(link, group, topics, pulse)
        except Unavailable as away:
            log().warning("a reader waits", group=group, why=away.message)
        await asyncio.sleep(AGAIN_S)


async def started(link: Link, group: str, topics: Sequence[str], pulse: Pulse) -> Any:
    consumer = AIOKafkaConsumer(
        *topics,
        **link.options | {"request_timeout_ms": int(REQUEST_S * 1000)},
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(pulse.session_s * 1000),
        heartbeat_interval_ms=int(pulse.beat_s * 1000),
    )
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise
    return consumer
