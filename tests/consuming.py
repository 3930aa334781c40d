"""A log in a database of its own, events to tell, and a handler whose state shows what it was given."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.common import schema
from services.common.background import alongside
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id, rfc3339
from services.common.consumer.consumer import Consumer, Patience
from services.common.db import Database, Transaction, open_database
from services.common.log.log import Entry, Log, Place, Shard
from services.common.log.postgres.log import open_postgres_log
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.relay import Relay
from soma.events.v1alpha1.message_pb2 import MessageEvent

TOPIC = "agent.messages"
SEEN = """
CREATE TABLE soma.seen (n bigserial PRIMARY KEY, "group" text, id uuid, key text, what text);
GRANT ALL ON soma.seen TO soma_worker; GRANT ALL ON SEQUENCE soma.seen_n_seq TO soma_worker;
"""
SEE = 'INSERT INTO soma.seen ("group", id, key, what) SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[])'
HASTY = Patience(attempts=3, first_s=0.05, longest_s=0.2, look_s=0.05)


@dataclass(frozen=True, slots=True)
class Deed:
    """What an event of the tests says: the nth of somebody."""

    who: str
    what: str

    def event(self, tenant: str = "acme") -> MessageEvent:
        return MessageEvent(
            id=str(new_id()),
            type="turn.asked",
            version=1,
            time=rfc3339(SystemClock().now()),
            tenant=tenant,
            subject=self.who,
            conversation=f"conversations/{self.what}",
        )


def what_of(entry: Entry) -> str:
    return entry.payload.decode().partition('"conversation":"conversations/')[2].partition('"')[0]


@dataclass(slots=True)
class Seeing:
    """A handler: what it was given stands in soma.seen, written in its transaction."""

    group: str
    before: Callable[[Transaction, Sequence[Entry]], Awaitable[None]] | None = None
    after: Callable[[Transaction, Sequence[Entry]], Awaitable[None]] | None = None

    async def __call__(self, tx: Transaction, entries: Sequence[Entry]) -> None:
        if self.before:
            await self.before(tx, entries)
        ids, keys = [entry.id for entry in entries], [entry.key for entry in entries]
        await tx.execute(SEE, self.group, ids, keys, [what_of(entry) for entry in entries])
        if self.after:
            await self.after(tx, entries)


@dataclass(frozen=True)
class World:
    admin_url: str
    url: str
    db: Database
    log: Log
    group: str = ""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    start: Mapping[Place, int] = field(default_factory=dict)
    """Where the log ended before the test."""

    @cached_property
    def sight(self) -> Sight:
        return Sight(Tracer(0.0), self.registry)

    async def tell(self, *deeds: Deed, tenant: str = "acme") -> list[MessageEvent]:
        """In one transaction, and into the log."""
        events = [deed.event(tenant) for deed in deeds]
        await self.put(*events)
        return events

    async def put(self, *events: MessageEvent) -> None:
        async with self.db.own(Caller.system("tests", "")) as tx:
            for event in events:
                tx.tell(event)
        await self.relay()

    async def relay(self) -> None:
        relay = Relay(self.db, self.log, self.sight)
        while await relay.step(Shard(0, 1), 1000):
            pass

    def consumer(self, handle: Any, group: str = "", **settings: Any) -> Consumer:
        given: dict[str, Any] = {"patience": HASTY, "measure_s": 0.2} | settings
        return Consumer(self.db, self.log, self.sight, group or self.group, (TOPIC,), handle, **given)

    async def seen(self, group: str = "", who: str = "") -> list[str]:
        rows = await self.db.look(
            'SELECT what FROM soma.seen WHERE "group" = $1 AND ($2 = \'\' OR key = $2) ORDER BY n',
            group or self.group, f"acme/{who}" if who else "",
        )  # fmt: skip
        return [row["what"] for row in rows]

    async def letters(self, state: str = "") -> list[Any]:
        query = (
            'SELECT * FROM soma.retries WHERE "group" = $1 AND ($2 = \'\' OR state = $2) ORDER BY topic, part, "offset"'
        )
        return list(await self.db.look(query, self.group, state))

    async def until(self, holds: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.02)

    async def until_seen(self, *what: str, who: str = "") -> None:
        async def all_seen() -> bool:
            return set(what) <= set(await self.seen(who=who))

        await self.until(all_seen)

    async def until_through(self, group: str = "") -> None:
        """The group stands at the end, and no letter waits."""

        async def through() -> bool:
            standing, ends = await self.log.standing(group or self.group), await self.log.ends(TOPIC)
            waiting = await self.db.look(
                "SELECT 1 FROM soma.retries WHERE \"group\" = $1 AND state = 'waiting'", group or self.group
            )
            return not waiting and all(standing.get(place, first) >= end for place, (first, end) in ends.items())

        await self.until(through)

    def running(self, *consumers: Consumer) -> Any:
        return running(*consumers)


@asynccontextmanager
async def running(*consumers: Consumer) -> AsyncIterator[None]:
    async with alongside(together(*consumers), name="consumers"):
        yield


async def together(*consumers: Consumer) -> None:
    async with asyncio.TaskGroup() as tasks:
        for consumer in consumers:
            tasks.create_task(consumer.run())


@asynccontextmanager
async def open_world(admin_url: str, folder: Path) -> AsyncIterator[World]:
    """The tables, the workers' login, and what the tests' handlers write, in a fresh Postgres."""
    await schema.migrate(admin_url, ())
    await schema.set_room_password(admin_url, "workers", "test")
    async with schema.administering(admin_url) as conn:
        await conn.execute(SEEN)
    url = f"postgresql://soma_workers:test@{admin_url.rpartition('@')[2]}"
    async with open_database(url, f"file://{folder}", SystemClock()) as db, open_postgres_log(db) as log:
        await log.make_topics()
        yield World(admin_url, url, db, log)


async def with_group(world: World) -> World:
    """The same with a group of its own, which stands at the end of the log."""
    start = {place: end for place, (_, end) in (await world.log.ends(TOPIC)).items()}
    fresh = replace(renamed(world), start=start)
    await fresh.log.stand(fresh.group, start)
    return fresh


def renamed(world: World) -> World:
    """The same with a group that nobody knows."""
    return replace(world, group=f"g{secrets.token_hex(4)}", registry=CollectorRegistry())
