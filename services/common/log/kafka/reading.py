"""A member of a consumer group. It commits by hand, after the handler's own transaction. When it hears of a
rebalance it forgets what is not committed, also of partitions that it keeps: all begin at what is committed."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
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


@dataclass(slots=True, eq=False)
class Hands:
    """What a member knows of its partitions, from one rebalance to the next."""

    given: dict[Any, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """What was given out and is not committed, in order: offset and identity. The same offset may be given out again,
    but no two entries that are both there have one identity. The entries themselves may be gone, and their memory."""
    owed: dict[Any, int] = field(default_factory=dict)
    """What could not be committed when it was done: a broker was away. It goes with the next."""
    begun: set[Any] = field(default_factory=set)
    """Partitions in which the group is known to stand somewhere."""

    def give(self, run: Sequence[Entry]) -> None:
        self.given[where(run)] += marks(run)

    def out(self, run: Sequence[Entry]) -> int:
        """How many are out up to the run's end; 0 unless all of the run is. What is from before a rebalance, or was
        given out again since, must not count: the group may have been put elsewhere."""
        given = self.given.get(where(run), [])
        begin = bisect_left(given, (run[0].offset, 0))
        end = begin + len(run)
        return end if given[begin:end] == marks(run) else 0


@dataclass(slots=True, eq=False)
class Sharing(ConsumerRebalanceListener):  # type: ignore[misc]
    """Empties the hands when the group begins to share out its partitions anew. Until it is done aiokafka gives out
    nothing."""

    hands: Hands = field(default_factory=Hands)

    def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002 - all are, whichever come back
        self.let_go(self.hands)

    def on_partitions_assigned(self, assigned: object) -> None:
        pass

    def let_go(self, hands: Hands) -> None:
        if self.hands is hands:
            self.hands = Hands()


@dataclass(frozen=True, slots=True)
class Member:
    """Implements log.Reader."""

    consumer: Any
    sharing: Sharing
    gathering: Gathering = field(default_factory=Gathering)
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fetch(self, most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        if new := self.consumer.assignment() - self.sharing.hands.begun:
            await self._begin(new)
        if self.sharing.hands.owed:
            await self._settle()
        end = time.monotonic() + within_s
        if not await self.gathering.over(end):
            return ()
        with kafka_errors():
            left_ms = max(0, int((end - time.monotonic()) * 1000))
            found = await self.consumer.getmany(timeout_ms=left_ms, max_records=most)
        if found and all(self._ends_with(part, records) for part, records in found.items()):
            self.gathering.begin()
        runs = [run for records in found.values() if (run := entries(records))]
        for run in runs:
            self.sharing.hands.give(run)
        return runs

    async def hold(self, tx: Transaction, run: Sequence[Entry]) -> None:  # noqa: ARG002
        """As far as this process knows. What another member does twice meanwhile is known by its id."""
        if not self.sharing.hands.out(run):
            raise LeaseLost

    async def commit(self, run: Sequence[Entry]) -> None:
        hands = self.sharing.hands
        if done := hands.out(run):
            del hands.given[where(run)][:done]
            hands.owed[where(run)] = run[-1].offset + 1
            await self._settle()

    async def rewind(self, place: Place) -> None:
        part, hands = TopicPartition(*place), self.sharing.hands
        hands.given.pop(part, None)
        with kafka_errors():
            async with asyncio.timeout(COMMIT_S):
                if part not in self.consumer.assignment():
                    return
                try:
                    committed = await self.consumer.committed(part)
                    if hands is not self.sharing.hands:
                        return  # begun anew meanwhile, at what is committed
                    if committed is None:
                        await self.consumer.seek_to_beginning(part)
                    else:
                        self.consumer.seek(part, committed)
                except IllegalStateError:  # lost meanwhile
                    return

    def _ends_with(self, part: Any, records: Sequence[Any]) -> bool:
        """Whether nothing is behind these in their partition, as far as the broker has told."""
        return not records or records[-1].offset + 1 >= (self.consumer.highwater(part) or 0)

    async def _begin(self, new: set[Any]) -> None:
        """A group that is new stands at the beginning, and can be seen to, before it has done anything."""
        hands = self.sharing.hands
        silent = [part for part in new if part not in hands.given]
        try:
            async with asyncio.timeout(COMMIT_S):
                bare = [part for part in silent if await self.consumer.committed(part) is None]
                for part, first in (await self.consumer.beginning_offsets(bare)).items() if bare else ():
                    hands.owed.setdefault(part, first)
        except (KafkaError, TimeoutError):
            return
        hands.begun.update(new)

    async def _settle(self) -> None:
        """Commit what is done. Brokers that are away get it later; until then it may be given out again elsewhere. One
        at a time: after one that fails aiokafka belongs to no group, and a second one would go out as that, and count.
        """
        try:
            async with asyncio.timeout(COMMIT_S), self.settling:
                await self._commit(self.sharing.hands)
        except (KafkaError, TimeoutError) as fault:
            log().warning("offsets wait for the broker", why=str(fault) or type(fault).__name__)

    async def _commit(self, hands: Hands) -> None:
        owed, mine = dict(hands.owed), self.consumer.assignment()
        offsets = {part: offset for part, offset in owed.items() if part in mine}
        try:
            if offsets:
                await self.consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            self.sharing.let_go(hands)  # who has the partitions now reads on from what was committed
        else:
            for part, offset in owed.items():
                if hands.owed.get(part) == offset:
                    del hands.owed[part]


def where(run: Sequence[Entry]) -> Any:
    return TopicPartition(*run[-1].place)


def marks(run: Sequence[Entry]) -> list[tuple[int, int]]:
    return [(entry.offset, id(entry)) for entry in run]


@asynccontextmanager
async def join(
    link: Link, group: str, topics: Sequence[str], pulse: Pulse, gathering: Gathering | None = None
) -> AsyncIterator[Member]:
    """Be a member for as long as the block. Waits for brokers that are away. The topics must be there."""
    sharing = Sharing()
    consumer = await joined(link, group, topics, pulse, sharing)
    try:
        yield Member(consumer, sharing, gathering=gathering or Gathering())
    finally:
        await stop(consumer)


async def joined(link: Link, group: str, topics: Sequence[str], pulse: Pulse, sharing: Sharing) -> Any:
    while True:
        try:
            with kafka_errors():
                return await started(link, group, topics, pulse, sharing)
        except Unavailable as away:
            log().warning("a reader waits", group=group, why=away.message)
        await asyncio.sleep(AGAIN_S)


async def started(link: Link, group: str, topics: Sequence[str], pulse: Pulse, sharing: Sharing) -> Any:
    consumer = AIOKafkaConsumer(
        **link.options | {"request_timeout_ms": int(REQUEST_S * 1000)},
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(pulse.session_s * 1000),
        heartbeat_interval_ms=int(pulse.beat_s * 1000),
    )
    consumer.subscribe(topics, listener=sharing)
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise
    return consumer
