"""Rows on their way into Kafka: in order per partition, each batch sent once the one before it is acknowledged.

A batch is all or nothing, and at most one of a partition is on its way for one caller: so what a broker refuses, or
keeps waiting, is never overtaken by what came later. aiokafka's own queue would let that happen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from services.common.errors import Unavailable
from services.common.log.kafka.entries import headers
from services.common.log.kafka.link import Link, kafka_errors, stop
from services.common.log.kafka.topics import LARGEST_BATCH
from services.common.log.log import Place, Unpublishable

BATCH_BYTES = 1024 * 1024
SENT_WITHIN_S = 10.0
NEVER = (MessageSizeTooLargeError, RecordListTooLargeError)
"""What a broker says of the events themselves: saying them again does not help."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Events of one partition, on their way."""

    ids: frozenset[str]
    acknowledged: asyncio.Future[Any]


@dataclass(slots=True, eq=False)
class Sender:
    """The producer of a process. It is replaced after any refusal: its numbering of batches has a gap then, and the
    broker would refuse all that follows."""

    link: Link
    within_s: float = SENT_WITHIN_S
    _producer: Any = None
    _late: list[Batch] = field(default_factory=list)
    """What earlier calls gave up waiting for. aiokafka keeps trying, so it is waited for and not sent again."""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)

    async def send(self, lanes: Mapping[Place, Sequence[Any]], arrived: set[str]) -> None:
        """Rows by partition, in order. Those in `arrived` are in the log already; what arrives is put in there, also
        when not all does. Raises Unpublishable, or Unavailable when the brokers do not answer in time."""
        with kafka_errors():
            async with asyncio.timeout(self.within_s):
                await self._await_late({str(row["id"]) for rows in lanes.values() for row in rows}, arrived)
                waiting = {place: unsent(rows, arrived) for place, rows in lanes.items()}
                while waiting := {place: rows for place, rows in waiting.items() if rows}:
                    await self._round(waiting, arrived)
                    waiting = {place: unsent(rows, arrived) for place, rows in waiting.items()}

    async def close(self) -> None:
        if self._producer:
            self._retire(self._producer)
        await asyncio.gather(*self._leaving)

    async def _await_late(self, ids: set[str], arrived: set[str]) -> None:
        ours = [batch for batch in self._late if batch.ids & ids]
        if ours:
            await asyncio.wait([batch.acknowledged for batch in ours])
        for batch in [batch for batch in self._late if batch.acknowledged.done()]:
            self._late.remove(batch)
            if not fault_of(batch):
                arrived |= batch.ids & ids

    async def _round(self, lanes: Mapping[Place, Sequence[Any]], arrived: set[str]) -> None:
        """One batch of each partition, and what became of it."""
        producer, sent = await self._ready(), list[Batch]()
        try:
            for place, rows in lanes.items():
                sent.append(await put(producer, place, rows))
            await asyncio.wait([batch.acknowledged for batch in sent])
        except BaseException:
            self._late += sent
            raise
        for batch in sent:
            if not fault_of(batch):
                arrived |= batch.ids
        if faults := [fault for batch in sent if (fault := fault_of(batch))]:
            self._retire(producer)
            raise told(faults)

    async def _ready(self) -> Any:
        """The producer, made when there is none."""
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self.link.options,
                    enable_idempotence=True,
                    acks="all",
                    compression_type="zstd",
                    max_batch_size=BATCH_BYTES,
                    max_request_size=LARGEST_BATCH,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: Any) -> None:
        """Let it bring to an end what is on its way, and use another one from now on."""
        if self._producer is producer:
            self._producer = None
        task = asyncio.create_task(stop(producer))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def put(producer: Any, place: Place, rows: Sequence[Any]) -> Batch:
    """Hand over as many of the rows as one batch takes: at least one."""
    topic, part = place
    builder, ids = producer.create_batch(), list[str]()
    for row in rows:
        key, value = row["aggregateid"].encode(), row["payload"].encode()
        if builder.append(key=key, value=value, timestamp=None, headers=headers(row)) is None:
            break
        ids.append(str(row["id"]))
    builder.close()
    acknowledged = await producer.send_batch(builder, topic, partition=part)
    acknowledged.add_done_callback(look_at)
    return Batch(frozenset(ids), acknowledged)


def unsent(rows: Sequence[Any], arrived: set[str]) -> Sequence[Any]:
    return [row for row in rows if str(row["id"]) not in arrived]


def look_at(acknowledged: asyncio.Future[Any]) -> None:
    """A batch that nobody waits for any more may fail unseen."""
    with contextlib.suppress(asyncio.CancelledError):
        acknowledged.exception()


def fault_of(batch: Batch) -> BaseException | None:
    return batch.acknowledged.exception()


def told(faults: Sequence[BaseException]) -> Exception:
    """Absence before refusal: who is refused is found out when all answer."""
    for fault in faults:
        if not isinstance(fault, NEVER):
            message = f"The event log refuses: {fault}."
            return Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1)
    return Unpublishable(f"Kafka refuses it: {faults[0]}")
