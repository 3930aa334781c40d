"""An archiver over a real log, and one in a process of its own that may be killed: `python -m tests.archiving`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common import outbox, schema
from services.common.blobs import Blobs, open_blobs
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.db import Database, open_database
from services.common.log.log import Entry, Log, Shard
from services.common.log.postgres.log import open_postgres_log
from services.common.log.topics import TOPICS
from services.common.outbox import Row
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.archive.archive import Archive
from services.workers.archive.archiver import GROUP, Archiver
from services.workers.archive.spool import Bounds
from services.workers.relay import Relay
from tests.stores import running_postgres

ROOM = Caller.system("workers", "")
AT_ONCE = Bounds(age=timedelta(0))
NUMBERS = count()
EMPTIED = """
TRUNCATE soma.outbox, soma.log, soma.log_heads, soma.log_groups, soma.log_members, soma.handled, soma.retries,
    soma.archived;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT to_char(day, '"soma.log_"YYYYMMDD') FROM soma.log_days WHERE day < current_date - 1 LOOP
        EXECUTE 'DROP TABLE ' || name;
    END LOOP;
END $$;
"""


def a_row(tenant: str = "acme", who: str = "ada", topic: str = "agent.tool", payload: str = "") -> Row:
    said = payload or json.dumps({"n": next(NUMBERS), "text": "ä" * 40}, ensure_ascii=False, separators=(",", ":"))
    return Row(str(new_id()), tenant, topic, f"{tenant}/{who}", "tool.called", said, "00-0af7-b7ad-01")


@dataclass(frozen=True, slots=True)
class World:
    """A log in a Postgres of its own."""

    admin_url: str
    url: str
    db: Database
    log: Log
    sight: Sight

    async def empty(self) -> None:
        """Nothing was told, and nobody has read anything."""
        async with schema.administering(self.admin_url) as conn:
            await conn.execute(EMPTIED)
        await self.log.make_topics()

    async def tell(self, *rows: Row) -> None:
        """Into the log."""
        async with self.db.own(ROOM) as tx:
            await tx.execute(outbox.INSERT, *outbox.columns(rows))
        relay = Relay(self.db, self.log, self.sight)
        while await relay.step(Shard(0, 1), 1000):
            pass

    async def until(self, holds: Callable[[], Awaitable[bool]], within_s: float = 20) -> None:
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    async with running_postgres(folder / "postgres") as admin_url:
        await schema.migrate(admin_url, ())
        await schema.set_room_password(admin_url, "workers", "test")
        url = f"postgresql://soma_workers:test@{admin_url.rpartition('@')[2]}"
        async with open_database(url, f"file://{folder}/keys", SystemClock()) as db, open_postgres_log(db) as log:
            yield World(admin_url, url, db, log, Sight(Tracer(0.0), CollectorRegistry()))


@asynccontextmanager
async def archiver(db: Database, log: Log, blobs: Blobs, bounds: Bounds = AT_ONCE) -> AsyncIterator[Archiver]:
    sight = Sight(Tracer(0.0), CollectorRegistry())
    async with log.reader(GROUP, list(TOPICS)) as reader:
        yield Archiver(db, reader, Archive(blobs, log), sight, SystemClock(), bounds, look_s=0.05)


async def everything(log: Log) -> list[Entry]:
    entries: list[Entry] = []
    for topic in TOPICS:
        for place, (first, _) in (await log.ends(topic)).items():
            entries += await log.read(place, first, 10_000)
    return sorted(entries, key=order)


async def archived(blobs: Blobs) -> list[Entry]:
    """All that is in the archive, by way of its own reader."""
    archive = Archive(blobs, None)  # type: ignore[arg-type] # reading asks no log
    names = [name for tenant in ("acme", "globex") for name in await blobs.list(tenant)]
    entries = [entry for name in names for entry in await archive.read(name)]
    return sorted(entries, key=order)


def order(entry: Entry) -> tuple[str, int, int]:
    return entry.topic, entry.part, entry.offset


@dataclass(frozen=True, slots=True)
class Lag:
    log: Log

    async def __call__(self) -> int:
        standing = await self.log.standing(GROUP)
        ends = [end for topic in TOPICS for end in (await self.log.ends(topic)).items()]
        return sum(end - standing.get(place, first) for place, (first, end) in ends)


async def main(url: str, keys_url: str, archive_url: str) -> None:
    async with open_database(url, keys_url, SystemClock()) as db, open_postgres_log(db, lease_s=3) as log:
        lag = Lag(log)
        async with archiver(db, log, open_blobs(archive_url)) as one:
            while await lag():
                await one.write(await one.read())


def arguments(world: World, archive_url: str) -> Sequence[str]:
    return [sys.executable, "-m", "tests.archiving", world.url, "file:///nonexistent", archive_url]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
