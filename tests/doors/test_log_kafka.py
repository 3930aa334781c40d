"""The log in a real Kafka keeps the laws of the log, and those that only brokers can break: away, killed, refusing."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, NodeNotReadyError

from services.common.background import alongside
from services.common.errors import Unavailable
from services.common.identity import Identity
from services.common.log.kafka.log import KafkaLog, open_kafka_log
from services.common.log.kafka.reading import Pulse, join
from services.common.log.kafka.topics import LARGEST_BATCH
from services.common.log.log import LeaseLost, Reader
from services.common.log.postgres.log import open_postgres_log
from services.common.log.relaying import put_back
from services.common.log.topics import TOPICS
from services.local import event_log
from services.local.workload.ca import new_root
from tests.doors import log_suite as suite
from tests.doors.log_suite import *  # noqa: F403 - the laws
from tests.doors.log_suite import (
    DEADLINE_S,
    ROOM,
    TOPIC,
    Books,
    Engine,
    a_group,
    a_key,
    a_row,
    ends,
    first_run,
    handle,
    has,
    read,
    reading,
    take_in,
    tell,
)
from tests.kafka import DOMAIN, LIVES, Broker

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUICK = Pulse(beat_s=0.1, session_s=10.0)
SILENT = Pulse(beat_s=3600.0, session_s=1.0)
NARROW = "agent.routing"
"""A topic whose largest batch tests change."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> AsyncIterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("log")
    async with (
        suite.outbox_database(folder) as (db, admin_url),
        open_kafka_log(broker.url, None, pulse=QUICK) as log,
    ):

        @asynccontextmanager
        async def mortal(group: str, topics: Sequence[str]) -> AsyncIterator[Reader]:
            async with join(log.link, group, topics, SILENT) as member:
                yield member

        await log.make_topics()
        yield Engine(db, log, admin_url, mortal, SILENT.session_s)


async def test_a_broker_that_is_killed_loses_nothing_and_who_comes_meanwhile_waits_for_it(
    engine: Engine, broker: Broker
) -> None:
    keys, newcomers = [a_key() for _ in range(20)], a_group()
    await engine.log.stand(newcomers, await ends(engine))
    async with reading(engine) as reader, open_kafka_log(broker.url, None, pulse=QUICK) as later:
        async with alongside(engine.relay(most=50).run(), name="relay"):
            told = await tell(engine, *(a_row(key) for key in keys * 20))
            books = await read(engine, reader, lambda books: len(books.known) > 50)
            await broker.end(signal.SIGKILL)
        late = Engine(engine.db, later, engine.admin_url, engine.mortal, engine.lease_s)
        with pytest.raises(Unavailable):
            await later.ends(TOPIC)
        async with alongside(late.relay(most=50).run(), name="relay"):
            told += await tell(engine, *(a_row(key) for key in keys * 5))
            starting = asyncio.create_task(broker.start())
            async with later.reader(newcomers, [TOPIC]) as newcomer:
                seen = await read(late, newcomer, has(told))
            await starting
            await until_empty(engine)
        books.enter((await read(engine, reader, has(set(told) - books.known))).entries)

    assert seen.by_key() == books.by_key() == {key: told[n :: len(keys)] for n, key in enumerate(keys)}


async def test_what_a_slow_broker_has_already_is_not_sent_again(engine: Engine, broker: Broker) -> None:
    key, before = a_key(), await ends(engine)
    async with open_kafka_log(broker.url, None) as log:
        hasty = Engine(engine.db, log, engine.admin_url, engine.mortal, engine.lease_s)
        await tell(hasty, a_row(key))
        await hasty.publish()
        log.sender.within_s = 0.5
        broker.send(signal.SIGSTOP)
        try:
            ids = await tell(hasty, *(a_row(key) for _ in range(10)))
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await hasty.publish()
            assert await waiting(engine) == 10
        finally:
            broker.send(signal.SIGCONT)
        ids += await tell(hasty, a_row(key))
        async with asyncio.timeout(DEADLINE_S):
            while await waiting(engine):
                try:
                    await hasty.publish()
                except Unavailable:
                    continue
        assert sum((await ends(engine)).values()) - sum(before.values()) == 12


async def test_an_event_that_the_broker_never_takes_goes_aside_and_comes_in_when_it_does(
    engine: Engine, broker: Broker
) -> None:
    keys = [a_key(), a_key()]
    rows = [a_row(keys[n % 2], noise(100_000) if n == 8 else "", topic=NARROW) for n in range(16)]
    async with taking_at_most(broker, 50_000), alongside(engine.relay().run(), name="relay"):
        ids = await tell(engine, *rows)
        await until_empty(engine)
        aside = await engine.db.look("SELECT id, reason FROM soma.outbox_aside WHERE aggregatetype = $1", NARROW)
        assert [row["id"] for row in aside] == [ids[8]]
        assert "MessageSizeTooLarge" in aside[0]["reason"]
    async with engine.db.own(ROOM) as tx:
        await put_back(tx)
    await engine.publish()

    async with engine.log.reader(a_group(), [NARROW]) as reader:
        books = await read(engine, reader, has(ids))
    assert books.by_key()[keys[0]] == [*ids[0:8:2], *ids[10::2], ids[8]]
    assert books.by_key()[keys[1]] == ids[1::2]


async def test_what_is_refused_in_one_piece_is_not_overtaken_by_what_comes_later(
    engine: Engine, broker: Broker
) -> None:
    """The first batch of a MiB is refused, whole; the second, which is smaller, would be taken."""
    key = a_key()
    async with (
        engine.log.reader(a_group(), [NARROW]) as reader,
        taking_at_most(broker, 500_000),
        alongside(engine.relay().run(), name="relay"),
    ):
        ids = await tell(engine, *(a_row(key, noise(60_000), topic=NARROW) for _ in range(25)))
        books = await read(engine, reader, has(ids))
    assert books.by_key()[key] == ids


async def test_a_share_out_in_mid_batch_loses_nothing_and_keeps_the_order(engine: Engine) -> None:
    group, keys, books = a_group(), [a_key() for _ in range(40)], Books()
    await engine.log.stand(group, await ends(engine))
    ids = await tell(engine, *(a_row(key) for key in keys * 5))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as one, asyncio.timeout(DEADLINE_S):
        out = list(await one.fetch(500, 5))
        async with engine.log.reader(group, [TOPIC]) as other:
            while not (books.known >= set(ids) and await engine.log.standing(group) == await ends(engine)):
                for reader in (one, other):
                    runs = out if reader is one and out else await reader.fetch(30, 0.1)
                    await take_in(engine, reader, books, runs)
                    out = []
    assert books.by_key() == {key: ids[n :: len(keys)] for n, key in enumerate(keys)}


async def test_a_commit_that_was_under_way_does_not_undo_where_a_group_was_put(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    async with engine.log.reader(group, [TOPIC]) as reader:
        await tell(engine, *(a_row(key) for _ in range(3)))
        await engine.publish()
        run = await first_run(reader)
        where = {run[0].place: run[0].offset}
        await engine.log.stand(group, where)
        await reader.commit(run)
        assert (await engine.log.standing(group))[run[0].place] == run[0].offset


async def test_commits_that_were_under_way_together_do_not_undo_it_either(engine: Engine) -> None:
    group = a_group()
    await engine.log.stand(group, stood := await ends(engine))
    async with engine.log.reader(group, [TOPIC]) as reader:
        await tell(engine, *(a_row(a_key()) for _ in range(60)))
        await engine.publish()
        runs = list(await reader.fetch(500, 5))
        while len(runs) < 3:
            runs += await reader.fetch(500, 1)
        await engine.log.stand(group, stood)
        await asyncio.gather(*(reader.commit(run) for run in runs))
        assert await engine.log.standing(group) == stood


async def test_what_was_given_out_before_a_group_was_put_elsewhere_does_not_count_when_it_is_given_out_again(
    engine: Engine,
) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    async with engine.log.reader(group, [TOPIC]) as reader:
        ids = await tell(engine, *(a_row(key) for _ in range(3)))
        await engine.publish()
        run = await first_run(reader)
        await engine.log.stand(group, {run[0].place: run[0].offset})
        again = await first_run(reader)
        assert [entry.id for entry in again] == ids
        for late in (run, [*run, *again]):
            with pytest.raises(LeaseLost):
                await handle(engine, reader, late)
            await reader.commit(late)
        assert (await engine.log.standing(group))[run[0].place] == run[0].offset
        await handle(engine, reader, again)
        assert await engine.log.standing(group) == await ends(engine)


async def test_a_group_that_is_new_can_be_seen_at_the_beginning_before_it_has_done_anything(engine: Engine) -> None:
    group = a_group()
    async with engine.log.reader(group, [TOPIC]) as reader:
        await reader.fetch(1, 1)
        firsts = {place: first for place, (first, _) in (await engine.log.ends(TOPIC)).items()}
        assert await engine.log.standing(group) == firsts


async def test_what_nobody_has_read_goes_over_into_another_log_before_what_waits(engine: Engine) -> None:
    group, key = a_group(), a_key()
    await engine.log.stand(group, await ends(engine))
    ids = await tell(engine, *(a_row(key) for _ in range(6)))
    await engine.publish()
    async with engine.log.reader(group, [TOPIC]) as reader:
        await handle(engine, reader, (await first_run(reader))[:2])
    ids += await tell(engine, a_row(key), a_row(key))
    async with engine.db.own(ROOM) as tx:
        readers = {group: await engine.log.standing(group)}
        await event_log.give_back(engine.log, tx, readers)
    await event_log.stand_at_ends(engine.log, readers)
    assert await engine.log.standing(group) == await ends(engine)

    async with open_postgres_log(engine.db) as log:
        await log.make_topics()
        other = Engine(engine.db, log, engine.admin_url, engine.mortal, engine.lease_s)
        await other.publish()
        async with log.reader(group, [TOPIC]) as reader:
            books = await read(other, reader, has(ids[2:]))
    assert books.by_key()[key] == ids[2:]


async def test_what_others_write_into_a_topic_is_passed_over(engine: Engine) -> None:
    key = a_key()
    log = engine.log
    assert isinstance(log, KafkaLog)
    async with reading(engine) as reader:
        async with AIOKafkaProducer(**log.link.options) as stranger:
            for number in range(TOPICS[TOPIC].parts):
                await stranger.send_and_wait(TOPIC, b"hello", partition=number)
        ids = await tell(engine, a_row(key))
        await engine.publish()
        assert (await read(engine, reader, has(ids))).by_key() == {key: ids}


async def test_a_room_shows_its_svid_and_a_new_one_when_it_has_been_renewed(engine: Engine, broker: Broker) -> None:
    strange = new_root(DOMAIN, LIVES, datetime.now(UTC))
    identity = Identity(DOMAIN, broker.svid("workers"))
    async with open_kafka_log(broker.tls_url, identity) as log:
        tls = Engine(engine.db, log, engine.admin_url, engine.mortal, engine.lease_s)
        await tell(tls, a_row(a_key()))
        await tls.publish()
        assert await log.groups() == await engine.log.groups()

        identity.accept(broker.svid("workers", root=strange))
        await until_refused(log)
        identity.accept(broker.svid("workers"))
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    assert await log.groups() == await engine.log.groups()
                except Unavailable:
                    continue
                break


async def test_a_stranger_is_no_reader(broker: Broker) -> None:
    strange = new_root(DOMAIN, LIVES, datetime.now(UTC))
    for url in (broker.url.replace(broker.password, "guess"), f"kafka://127.0.0.1:{broker.port}"):
        async with open_kafka_log(url, None) as log:
            with pytest.raises(Unavailable):
                await log.groups()
    async with open_kafka_log(broker.tls_url, Identity(DOMAIN, broker.svid("workers", root=strange))) as log:
        with pytest.raises(Unavailable):
            await log.groups()


@pytest.mark.parametrize("url", ["kafka://", "kafka://host", "kafka+ssl://host:1", "http://host:1", "kafka://host:x"])
async def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="kafka"):
        async with open_kafka_log(url, None):
            pass


def noise(size: int) -> str:
    """What hardly compresses."""
    return json.dumps({"text": secrets.token_urlsafe(size * 3 // 4)})


async def waiting(engine: Engine) -> int:
    return int((await engine.db.look("SELECT count(*) FROM soma.outbox"))[0][0])


async def until_empty(engine: Engine) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await waiting(engine):
            await asyncio.sleep(0.02)


async def until_refused(log: KafkaLog) -> None:
    """A connection that is open goes on, so each time a new one."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await log.admin.close()
            try:
                await log.groups()
            except Unavailable:
                return


@asynccontextmanager
async def taking_at_most(broker: Broker, size: int) -> AsyncIterator[None]:
    """The topic takes no larger batch for as long as the block."""
    await set_largest(broker, size, takes=False)
    try:
        yield
    finally:
        await set_largest(broker, LARGEST_BATCH, takes=True)


async def set_largest(broker: Broker, size: int, *, takes: bool) -> None:
    """Return when the broker does, or does not, take a batch of 600 kB."""
    wanted = {"max.message.bytes": str(size), "message.timestamp.type": "LogAppendTime"}
    async with open_kafka_log(broker.url, None) as log:
        await until_altered(log, ConfigResource(ConfigResourceType.TOPIC, NARROW, wanted))
        async with (
            AIOKafkaProducer(**log.link.options, max_request_size=LARGEST_BATCH) as stranger,
            asyncio.timeout(DEADLINE_S),
        ):
            while await is_taken(stranger, bytes(600_000)) != takes:
                pass


async def until_altered(log: KafkaLog, wanted: ConfigResource) -> None:
    """A client that has just begun may know no broker yet, or have lost the one that it knew."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            admin = AIOKafkaAdminClient(**log.link.options)
            try:
                await admin.start()
                await admin.alter_configs([wanted])
            except (NodeNotReadyError, KafkaConnectionError):
                await asyncio.sleep(0.05)
            else:
                return
            finally:
                await admin.close()


async def is_taken(producer: AIOKafkaProducer, value: bytes) -> bool:
    try:
        await producer.send_and_wait(NARROW, value, partition=0)
    except MessageSizeTooLargeError:
        return False
    return True
