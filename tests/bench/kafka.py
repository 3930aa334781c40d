"""What the log in Kafka costs beside aiokafka alone: the relay and a producer, a reader and a consumer, in turns."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client import CollectorRegistry

from services.common import outbox
from services.common.caller import WORKERS
from services.common.clock import new_id
from services.common.db import Database, Transaction
from services.common.log.kafka.entries import headers
from services.common.log.kafka.log import KafkaLog, open_kafka_log
from services.common.log.kafka.reading import STEADY, join
from services.common.log.kafka.sending import BATCH_BYTES
from services.common.log.log import Reader, Shard
from services.common.log.topics import TOPICS, slot
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.relay import Relay
from tests.bench.figure import Figure, Missing
from tests.doors.log_suite import outbox_database
from tests.kafka import running_kafka

TELLING, READING = 4, 7
"""Rounds."""
TOLD = 4000
"""Events of a round of those that tell. Whoever reads reads all of them in each round."""
AT_ONCE = 500
WAIT_S = 5.0
TOPIC = "agent.messages"
TRACE = "00-0190f3a400007000800000000000abcd-0190f3a400007000-01"
NO_TRANSACTION = cast(Transaction, None)
"""Offsets are Kafka's, so a reader looks at none."""


@dataclass(frozen=True, slots=True)
class Bench:
    db: Database
    log: KafkaLog
    producer: Any


def measure(scale: float) -> list[Figure]:
    try:
        return uvloop.run(measured(scale))
    except pytest.skip.Exception as lack:
        raise Missing(str(lack)) from lack


async def measured(scale: float) -> list[Figure]:
    told = max(AT_ONCE, round(TOLD * scale))
    async with open_bench() as bench:
        sent = (await tell_in_turns(bench, 1 + TELLING, told))[1:]
        taken = await read_in_turns(bench, 2 * (1 + TELLING) * told)
        return [
            Figure("reader / bare consumer", middle(taken), "", 0.6, note=each(taken)),
            Figure("reader, committed", max(ours for ours, _ in taken), "/s", note=f"in batches of {AT_ONCE}"),
            Figure("bare consumer, committed", max(bare for _, bare in taken), "/s"),
            Figure("relay / bare producer", middle(sent), "", note=f"out of Postgres; {each(sent)}"),
            Figure("relay into Kafka", max(ours for ours, _ in sent), "/s", note="each batch acknowledged"),
            Figure("bare producer, idempotent, acks=all", max(bare for _, bare in sent), "/s"),
        ]


def middle(rounds: Sequence[tuple[float, float]]) -> float:
    return statistics.median(ours / bare for ours, bare in rounds)


def each(rounds: Sequence[tuple[float, float]]) -> str:
    return "rounds: " + " ".join(f"{ours / bare:.2f}" for ours, bare in rounds)


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    async with AsyncExitStack() as doors:
        folder = Path(doors.enter_context(tempfile.TemporaryDirectory(prefix="soma-bench-")))
        folder.chmod(0o755)
        broker = await doors.enter_async_context(running_kafka(folder / "kafka"))
        db, _ = await doors.enter_async_context(outbox_database(folder))
        log = await doors.enter_async_context(open_kafka_log(broker.url, None))
        await log.make_topics()
        producer = AIOKafkaProducer(
            **log.link.options, enable_idempotence=True, acks="all", compression_type="zstd", max_batch_size=BATCH_BYTES
        )
        yield Bench(db, log, await doors.enter_async_context(producer))


async def tell_in_turns(bench: Bench, rounds: int, events: int) -> list[tuple[float, float]]:
    return [(await relay_rate(bench, events), await send_rate(bench, events)) for _ in range(rounds)]


async def relay_rate(bench: Bench, events: int) -> float:
    relay = Relay(bench.db, bench.log, Sight(Tracer(0.0), CollectorRegistry()))
    rows = some_rows(events)
    for first in range(0, events, 1000):
        async with bench.db.own(WORKERS) as tx:
            await tx.execute(*outbox.insert(rows[first : first + 1000]))
    began, moved = time.perf_counter(), 0
    while gone := await relay.step(Shard(0, 1), relay.most):
        moved += gone
    return moved / (time.perf_counter() - began)


async def send_rate(bench: Bench, events: int) -> float:
    """As their manual has it: hand over each, and wait for all."""
    rows, parts = some_rows(events), TOPICS[TOPIC].parts
    began = time.perf_counter()
    for row in rows:
        where = {"partition": slot(row.key) % parts, "key": row.key.encode(), "headers": headers(told(row))}
        await bench.producer.send(TOPIC, row.payload.encode(), **where)
    await bench.producer.flush()
    return events / (time.perf_counter() - began)


async def read_in_turns(bench: Bench, events: int) -> list[tuple[float, float]]:
    """Each in a group of its own, and all that there is a round."""
    bare = AIOKafkaConsumer(
        TOPIC, **bench.log.link.options, group_id="bare", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with bare, join(bench.log.link, "ours", [TOPIC], STEADY) as ours:
        found = []
        for _ in range(1 + READING):
            await ours.consumer.seek_to_beginning()
            rate = await read_rate(ours, events)
            await bare.seek_to_beginning()
            found.append((rate, await bare_rate(bare, events)))
        return found[1:]


async def read_rate(reader: Reader, events: int) -> float:
    began, read = time.perf_counter(), 0
    while read < events:
        runs = await reader.fetch(AT_ONCE, WAIT_S)
        for run in runs:
            await reader.hold(NO_TRANSACTION, run)
            await reader.commit(run)
        read += counted(sum(map(len, runs)))
    return read / (time.perf_counter() - began)


async def bare_rate(consumer: Any, events: int) -> float:
    began, read = time.perf_counter(), 0
    while read < events:
        batch = await consumer.getmany(timeout_ms=int(WAIT_S * 1000), max_records=AT_ONCE)
        await consumer.commit({where: records[-1].offset + 1 for where, records in batch.items()})
        read += counted(sum(map(len, batch.values())))
    return read / (time.perf_counter() - began)


def counted(events: int) -> int:
    assert events, f"nothing came in {WAIT_S} s"
    return events


def some_rows(events: int) -> list[outbox.Row]:
    """Of about 500 bytes, which compress as texts do."""
    dice = random.Random(events)
    return [
        outbox.Row(str(new_id()), "acme", TOPIC, f"acme/{n % 64}", "turn.asked", payload(dice), TRACE)
        for n in range(events)
    ]


def payload(dice: random.Random) -> str:
    return (
        '{"conversation":"conversations/0190f3a4-0000-7000-8000-000000000000","text":"'
        + dice.randbytes(210).hex()
        + '"}'
    )


def told(row: outbox.Row) -> dict[str, str]:
    return {"id": row.id, "tenant": row.tenant, "type": row.type, "traceparent": row.traceparent}
