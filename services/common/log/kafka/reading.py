"""A member of a consumer group. It commits by hand, after the handler's own transaction. In a rebalance it forgets what
is not committed, also of partitions that it keeps: all begin at what is committed."""

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
class Hands(ConsumerRebalanceListener):  # type: ignore[misc]
    """What a member knows of its partitions: nothing, as soon as the group begins to share them out anew. Meanwhile
    aiokafka gives out nothing."""

    given: dict[Any, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    """What was given out and is not committed, in order."""
    owed: dict[Any, int] = field(default_factory=dict)
    """What could not be committed when it was done: a broker was away. It goes with the next."""
    begun: set[Any] = field(default_factory=set)
    """Partitions in which the group is known to stand somewhere."""

    def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002 - all are, whichever come back
        self.given.clear()
        self.owed.clear()
        self.begun.clear()

    def on_partitions_assigned(self, assigned: object) -> None:
        pass

    def count(self, where: Any, last: Entry) -> int:
        """How many are out up to this entry; 0 when it is not out, or was given out again since. An old one must not
        count: the group may have been put elsewhere meanwhile."""
        given = self.given[where]
        n = bisect_left(given, last.offset, key=lambda entry: entry.offset)
        return n + 1 if n < len(given) and given[n] is last else 0


@dataclass(frozen=True, slots=True)
class Member:
    """Implements log.Reader."""

    consumer: Any
    hands: Hands
    gathering: Gathering = field(default_factory=Gathering)

    async def fetch(self, most: int, within_s: float) -> Sequence[Sequence[Entry]]:
        if new := self.consumer.assignment() - self.hands.begun:
            await self._begin(new)
        if self.hands.owed:
            await self._settle()
        end = time.monotonic() + within_s
        if not await self.gathering.over(end):
            return ()
        with kafka_errors():
            left_ms = max(0, int((end - time.monotonic()) * 1000))
            found = await self.consumer.getmany(timeout_ms=left_ms, max_records=most)
        if found and all(self._ends_with(where, records) for where, records in found.items()):
            self.gathering.begin()
        runs = {where: entries(records) for where, records in found.items()}
        for where, run in runs.items():
            self.hands.given[where] += run
        return [run for run in runs.values() if run]

    async def hold(self, tx: Transaction, run: Sequence[Entry]) -> None:  # noqa: ARG002
        """As far as this process knows. What another member does twice meanwhile is known by its id."""
        if not self.hands.count(TopicPartition(*run[-1].place), run[-1]):
            raise LeaseLost

    async def commit(self, run: Sequence[Entry]) -> None:
        where = TopicPartition(*run[-1].place)
        if done := self.hands.count(where, run[-1]):
            del self.hands.given[where][:done]
            self.hands.owed[where] = run[-1].offset + 1
            await self._settle()

    async def rewind(self, place: Place) -> None:
        where = TopicPartition(*place)
        self.hands.given.pop(where, None)
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
                    self.hands.owed.setdefault(where, first)
        except (KafkaError, TimeoutError):
            return
        self.hands.begun.update(new)

    async def _settle(self) -> None:
        """Commit what is done. Brokers that are away get it later; until then it may be given out again elsewhere."""
        owed, mine = dict(self.hands.owed), self.consumer.assignment()
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
            if self.hands.owed.get(where) == offset:
                del self.hands.owed[where]


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
    hands = Hands()
    consumer = await joined(link, group, topics, pulse, hands)
    try:
        yield Member(consumer, hands, gathering or Gathering())
    finally:
        await stop(consumer)


async def joined(link: Link, group: str, topics: Sequence[str], pulse: Pulse, hands: Hands) -> Any:
    while True:
        try:
            with kafka_errors():
                return await started(link, group, topics, pulse, hands)
        except Unavailable as away:
            log().warning("a reader waits", group=group, why=away.message)
        await asyncio.sleep(AGAIN_S)


async def started(link: Link, group: str, topics: Sequence[str], pulse: Pulse, hands: Hands) -> Any:
    consumer = AIOKafkaConsumer(
        **link.options | {"request_timeout_ms": int(REQUEST_S * 1000)},
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(pulse.session_s * 1000),
        heartbeat_interval_ms=int(pulse.beat_s * 1000),
    )
    consumer.subscribe(topics, listener=hands)
    try:
        await consumer.start()
    except BaseException:
        await stop(consumer)
        raise
    return consumer
