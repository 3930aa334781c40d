"""The event log in Kafka: the relay publishes the outbox, groups read it. The door to aiokafka, with kafka_*.py."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.common.db import Transaction
from services.common.errors import Unavailable
from services.common.identity import Identity
from services.common.log.gathering import Gathering
from services.common.log.kafka import groups as kafka_groups
from services.common.log.kafka import topics as kafka_topics
from services.common.log.kafka.entries import entries
from services.common.log.kafka.link import ASKED_S, Kept, Link, kafka_errors, open_link
from services.common.log.kafka.reading import AGAIN_S, STEADY, Pulse, join
from services.common.log.kafka.sending import Sender
from services.common.log.log import Drained, Entry, Place, Reader, Shard
from services.common.log.relaying import NO_TOPIC, TOO_LONG, set_aside
from services.common.log.topics import TOPICS
from services.common.outbox import LONGEST_EVENT, size
from services.common.telemetry import log

READ_MS = 1000

WAITING = """
SELECT seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent
FROM soma.outbox WHERE slot % $2::int = $1::int ORDER BY seq LIMIT $3
"""
DROP = "DELETE FROM soma.outbox WHERE seq = ANY ($1::bigint[])"


@dataclass(frozen=True, slots=True)
class KafkaLog:
    """Brokers as the log."""

    link: Link
    sender: Sender
    admin: Kept
    looker: Kept
    pulse: Pulse = STEADY
    arrived: dict[Shard, set[str]] = field(default_factory=dict)
    """What is in the log of a shard's rows whose deletion may not have been committed: it is not sent again."""
    name: str = field(default="kafka", init=False)

    async def make_topics(self) -> Sequence[str]:
        return await self.admin.ask(kafka_topics.make)

    async def drain(self, tx: Transaction, shard: Shard, most: int) -> Drained:
        rows = await tx.fetch(WAITING, shard.number, shard.of, most)
        known = [row for row in rows if not refusal(row)]
        await self.sender.send(by_place(known), self._arrived(shard, known))
        for reason in (NO_TOPIC, TOO_LONG):
            if strange := [row["seq"] for row in rows if refusal(row) == reason]:
                await set_aside(tx, strange, reason)
        await tx.execute(DROP, [row["seq"] for row in known])
        return Drained(count(known), count([row for row in rows if refusal(row)]))

    @asynccontextmanager
    async def reader(self, group: str, topics: Sequence[str], *, gather_s: float = 0.0) -> AsyncIterator[Reader]:
        await self._until_topics()
        async with join(self.link, group, topics, self.pulse, Gathering(gather_s)) as member:
            yield member

    async def ends(self, topic: str) -> Mapping[Place, tuple[int, int]]:
        first = await self.looker.ask(lambda looker: looker.beginning_offsets(parts(topic)))
        last = await self.looker.ask(lambda looker: looker.end_offsets(parts(topic)))
        return {(topic, p.partition): (first[p], last[p]) for p in parts(topic)}

    async def at(self, topic: str, time: datetime) -> Mapping[Place, int]:
        moments = dict.fromkeys(parts(topic), max(0, math.ceil(time.timestamp() * 1000)))
        found = await self.looker.ask(lambda looker: looker.offsets_for_times(moments))
        last = await self.looker.ask(lambda looker: looker.end_offsets(parts(topic)))
        return {(topic, p.partition): found[p].offset if found.get(p) else last[p] for p in parts(topic)}

    async def standing(self, group: str) -> Mapping[Place, int]:
        return await self.admin.ask(lambda admin: kafka_groups.standing(admin, group))

    async def stand(self, group: str, places: Mapping[Place, int]) -> None:
        with kafka_errors():
            async with asyncio.timeout(ASKED_S):
                await kafka_groups.stand(self.link, group, places)

    async def groups(self) -> Sequence[str]:
        return await self.admin.ask(kafka_groups.groups)

    async def read(self, place: Place, start: int, most: int) -> Sequence[Entry]:
        looker = Kept(lambda: looking(self.link))
        try:
            return await looker.ask(lambda client: read(client, TopicPartition(*place), start, most))
        finally:
            await looker.close()

    async def trim(self, starts: Mapping[Place, int]) -> None:
        """Let go of what is before these offsets."""
        await self.admin.ask(lambda admin: kafka_topics.trim(admin, starts))

    async def _until_topics(self) -> None:
        """aiokafka asks for a topic that is missing ten times a second."""
        while True:
            try:
                await self.make_topics()
            except Unavailable as away:
                log().warning("a reader waits", why=away.message)
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _arrived(self, shard: Shard, rows: Sequence[Any]) -> set[str]:
        """What an earlier call brought there and the outbox still has. When it has none of it, that is settled."""
        arrived = self.arrived.setdefault(shard, set())
        if not any(str(row["id"]) in arrived for row in rows):
            arrived.clear()
        return arrived


@asynccontextmanager
async def open_kafka_log(url: str, identity: Identity | None, *, pulse: Pulse = STEADY) -> AsyncIterator[KafkaLog]:
    """Nothing is connected before it is used. ValueError when the address is none."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # while a broker is away it says so ten times a second
    async with open_link(url, identity) as link:
        admin, looker = Kept(lambda: AIOKafkaAdminClient(**link.options)), Kept(lambda: looking(link))
        sender = Sender(link)
        try:
            yield KafkaLog(link, sender, admin, looker, pulse)
        finally:
            await asyncio.gather(sender.close(), admin.close(), looker.close())


def looking(link: Link) -> Any:
    """A consumer of no group."""
    return AIOKafkaConsumer(**link.options, auto_offset_reset="earliest")


async def read(looker: Any, where: Any, start: int, most: int) -> Sequence[Entry]:
    last = (await looker.end_offsets([where]))[where]
    looker.assign([where])
    looker.seek(where, start)
    found = list[Entry]()
    while len(found) < most and await looker.position(where) < last:
        records = await looker.getmany(timeout_ms=READ_MS, max_records=most - len(found))
        found += entries(records.get(where, ()))
    return found


def refusal(row: Any) -> str:
    """Why a row goes aside; empty for one that goes into the log."""
    if row["aggregatetype"] not in TOPICS:
        return NO_TOPIC
    return TOO_LONG if size(row["payload"]) > LONGEST_EVENT else ""


def by_place(rows: Sequence[Any]) -> dict[Place, list[Any]]:
    lanes = defaultdict[Place, list[Any]](list)
    for row in rows:
        topic = row["aggregatetype"]
        lanes[topic, row["slot"] % TOPICS[topic].parts].append(row)
    return lanes


def parts(topic: str) -> list[Any]:
    return [TopicPartition(topic, part) for part in range(TOPICS[topic].parts)]


def count(rows: Sequence[Any]) -> dict[str, int]:
    return dict(Counter(row["aggregatetype"] for row in rows))
