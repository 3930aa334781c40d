"""The audit trail of a house, sealed when a test says so: its outbox drained into the log, and sealed from there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from services.common import schema
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import Database, open_database
from services.common.log.log import Entry, Shard
from services.common.log.postgres.log import open_postgres_log
from services.common.trail.signing import FileSigningKeys
from services.workers.sealer.sealer import Sealer
from tests.house import House

ROOM = Caller.system("workers", "")
AUDIT = "agent.audit"
MOST = 10_000


@asynccontextmanager
async def workers_database(house: House) -> AsyncIterator[Database]:
    """With the workers' own login."""
    await schema.set_room_password(house.admin_url, "workers", "test")
    url, keys_url = house.store("console")
    async with open_database(url.replace("soma_console", "soma_workers"), keys_url, SystemClock()) as db:
        yield db


async def seal(house: House) -> None:
    """Everything that was told until now, under one new head a tenant."""
    async with workers_database(house) as db, open_postgres_log(db) as log:
        await log.make_topics()
        before = {place: after for place, (_, after) in (await log.ends(AUDIT)).items()}
        async with db.own(ROOM) as tx:
            drained = await log.drain(tx, Shard(0, 1), MOST)
        assert drained.count < MOST
        assert not drained.aside
        entries = [entry for place, start in before.items() for entry in await log.read(place, start, MOST)]
        await seal_entries(house, db, sorted(entries, key=lambda entry: entry.id))


async def seal_entries(house: House, db: Database, entries: Iterable[Entry]) -> None:
    async with db.own(ROOM) as tx:
        await pseudonym_of(house).seal(tx, entries)


def pseudonym_of(house: House) -> Sealer:
    return Sealer(FileSigningKeys(house.folder / "keys/audit"), SystemClock())
