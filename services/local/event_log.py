"""Which engine keeps the event log, by option; remembered in `log.json`. At a change nothing is lost: what the readers
of the old log have not read yet goes back into the outbox, before all that waits there, and so into the new one."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from services.local.fault import Fault
from services.local.files import write_whole

if TYPE_CHECKING:
    from services.common.db import Transaction
    from services.common.log.log import Entry, Log, Place
    from services.local.stack import Stack

POSTGRES, KAFKA = "postgres", "kafka"
PAGE = 500
Readers: TypeAlias = "Mapping[str, Mapping[Place, int]]"

JOINED = 'SELECT "group", topic, part, coalesce("offset", 0) AS "offset" FROM soma.log_groups'
LOWEST = "SELECT least(min(seq), 1) FROM soma.outbox"
GIVE_BACK = """
INSERT INTO soma.outbox (seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time)
OVERRIDING SYSTEM VALUE
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::json[], $7::text[], $8::int2[],
                     $9::text[], $10::timestamptz[])
"""


@dataclass(frozen=True, slots=True)
class Choice:
    engine: str = POSTGRES
    left: str = ""
    """The engine that was there before, as long as it may have what nobody has read."""

    @property
    def with_kafka(self) -> bool:
        """Whether the broker has to run."""
        return KAFKA in (self.engine, self.left)


def settle(home: Path, wish: str | None) -> Choice:
    """What holds for this start, and is remembered for the next."""
    choice = wished(home, wish)
    if choice != load(home):
        keep(home, choice)
    return choice


def wished(home: Path, wish: str | None) -> Choice:
    """None: as last time. A change that was never carried out may be taken back."""
    old = load(home)
    if wish in (None, old.engine):
        return old
    return Choice(str(wish), "" if old.left else old.engine)


def load(home: Path) -> Choice:
    with contextlib.suppress(FileNotFoundError):
        return Choice(**json.loads((home / "log.json").read_bytes()))
    return Choice()


def keep(home: Path, choice: Choice) -> None:
    write_whole(home / "log.json", json.dumps(asdict(choice)).encode())


async def carry_over(stack: Stack) -> None:
    """From the log that was left, if there is one. The stores must answer, and nobody may be reading. May be repeated:
    what comes twice is known by its id. Fault when it cannot be done."""
    from services.common.errors import Refusal

    left = stack.log.left
    if not left:
        return
    try:
        async with opened(stack, left) as (log, tx):
            readers = await readers_of(log, tx, left)
            await give_back(log, tx, readers)
        async with opened(stack, left) as (log, _):
            await stand_at_ends(log, readers)
    except (Refusal, OSError, TimeoutError) as fault:
        raise Fault(f"What {left} still has of the event log cannot be taken over: {fault}") from fault
    keep(stack.home, Choice(stack.log.engine))


@asynccontextmanager
async def opened(stack: Stack, engine: str) -> AsyncIterator[tuple[Log, Transaction]]:
    """That engine, and a transaction of the workers'."""
    from services.common.caller import Caller
    from services.common.clock import SystemClock
    from services.common.db import open_database
    from services.common.log.engine import open_log
    from services.local.parts import database_url, log_url

    async with (
        open_database(database_url(stack, "workers"), stack.keys_url, SystemClock(), connections=4) as db,
        open_log(log_url(stack, engine), db, None) as log,
        db.own(Caller.system("operator", "")) as tx,
    ):
        yield log, tx


async def readers_of(log: Log, tx: Transaction, engine: str) -> Readers:
    """Where each group stands, those too that have not committed anything yet."""
    if engine == POSTGRES:
        found = defaultdict[str, dict[Any, int]](dict)
        for row in await tx.fetch(JOINED):
            found[row["group"]][row["topic"], row["part"]] = row["offset"]
        return found
    return {group: await log.standing(group) for group in await log.groups()}


async def give_back(log: Log, tx: Transaction, readers: Readers) -> int:
    """Everything from the first entry on that some group has not read. Returns how many."""
    spans = await unread(log, readers)
    count = sum(end - start for start, end in spans.values())
    seq = int(await tx.fetchval(LOWEST)) - count
    for place, (start, end) in spans.items():
        while start < end and (page := await log.read(place, start, min(PAGE, end - start))):
            await tx.execute(GIVE_BACK, *columns(page, seq))
            seq, start = seq + len(page), page[-1].offset + 1
    return count


async def unread(log: Log, readers: Readers) -> Mapping[Place, tuple[int, int]]:
    """From where to where. A topic of which no group has heard is unread."""
    from services.common.log.topics import TOPICS

    found = dict[Any, tuple[int, int]]()
    for topic in TOPICS:
        theirs = [places for places in readers.values() if any(name == topic for name, _ in places)]
        for place, (first, end) in (await log.ends(topic)).items():
            start = max(first, min((places.get(place, first) for places in theirs), default=first))
            if start < end:
                found[place] = (start, end)
    return found


async def stand_at_ends(log: Log, readers: Readers) -> None:
    """Whoever comes back to this log does not read again what was carried over."""
    for group, places in readers.items():
        ends = {place: end for topic in {t for t, _ in places} for place, (_, end) in (await log.ends(topic)).items()}
        await log.stand(group, ends)


def columns(page: Any, seq: int) -> tuple[list[Any], ...]:
    from services.common.log.topics import slot

    entries: list[Entry] = list(page)
    return (
        list(range(seq, seq + len(entries))), [e.id for e in entries], [e.topic for e in entries],
        [e.key for e in entries], [e.type for e in entries], [e.payload.decode() for e in entries],
        [e.tenant for e in entries], [slot(e.key) for e in entries], [e.traceparent for e in entries],
        [e.time for e in entries],
    )  # fmt: skip
