"""A tenant's trail out of Postgres into an audit file, as it lies there: what is wrong with it, a verifier says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from services.common.trail import trail
from services.common.trail.checkpoint import origin
from services.common.trail.merkle import UNCHAINED
from services.common.trail.trail import Head, KeySpan, Reading
from services.local.audit.form import Header, Key, Start
from services.local.audit.writer import Writer
from services.local.fault import Fault

STEP = 500
"""So many events are read at once, and the file has a head for as many, where there is one."""

IS_SERVED = "SELECT true FROM soma.tenants WHERE name = $1"
CHAIN = "SELECT chain FROM soma.audit WHERE tenant = $1 AND index = $2"
EVENTS = """
SELECT index, chain, canonical FROM soma.audit WHERE tenant = $1 AND index >= $2 AND index < $3 ORDER BY index
"""
HEADS = """
SELECT size, checkpoint FROM soma.tree_heads WHERE tenant = $1 AND size > $2 AND size <= $3 AND (size = ANY($4)
    OR size = (SELECT max(size) FROM soma.tree_heads WHERE tenant = $1 AND size > $2 AND size <= $3))
ORDER BY size
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be written: events from `first` up to the newest head."""

    tenant: str
    first: int
    newest: Head
    keys: Sequence[Key]
    start: Start

    @property
    def size(self) -> int:
        return self.newest.size


async def measure(db: Reading, tenant: str, first: int) -> Extent:
    """What there is. Fault when that is nothing."""
    newest = await newest_head(db, tenant)
    if first >= newest.size:
        raise Fault(f"The audit trail of {tenant} ends with event {newest.size - 1}. Begin with that or before.")
    keys = in_use(await trail.keys(db, tenant), newest.size)
    try:
        return Extent(tenant, first, newest, keys, await start(db, tenant, first))
    except (trail.Incomplete, IndexError) as fault:
        raise Fault(
            f"The trail before event {first} is not whole in the database. Export it from the start."
        ) from fault


async def newest_head(db: Reading, tenant: str) -> Head:
    """Fault when nothing is sealed."""
    if heads := await trail.heads(db, tenant, most=1):
        return heads[0]
    await check_served(db, tenant)
    raise Fault(
        f"The audit trail of {tenant} is empty: nothing was done there yet, or the sealer does not run (soma status)."
    )


async def check_served(db: Reading, tenant: str) -> None:
    """Fault unless there is such a tenant."""
    if not await db.fetch(IS_SERVED, tenant):
        raise Fault(f"This mesh does not serve the tenant {tenant}.")


async def write(db: Reading, extent: Extent, out: BinaryIO, seen: Callable[[int], None]) -> None:
    """Write it all. `seen` is told how far it is. Fault when an event in the database cannot be a line."""
    writer = Writer(out)
    writer.begin(Header(extent.tenant, origin(extent.tenant)), extent.keys, extent.start)
    for low in range(extent.first, extent.size, STEP):
        high = min(low + STEP, extent.size)
        try:
            await write_step(db, extent, writer, low, high)
        except ValueError as fault:
            raise Fault(f"The trail was altered in the database: {fault}.") from fault
        seen(high)
    writer.end()


async def write_step(db: Reading, extent: Extent, writer: Writer, low: int, high: int) -> None:
    """Events, each head behind the last one that it covers."""
    rotations = [key.first for key in extent.keys]
    heads = [*await db.fetch(HEADS, extent.tenant, low, high, rotations)]
    for row in await db.fetch(EVENTS, extent.tenant, low, high):
        while heads and heads[0]["size"] <= row["index"]:
            writer.head(heads.pop(0)["checkpoint"])
        writer.event(row["index"], row["chain"], row["canonical"])
    for head in heads:
        writer.head(head["checkpoint"])


async def start(db: Reading, tenant: str, first: int) -> Start:
    chain = (await db.fetch(CHAIN, tenant, first - 1))[0]["chain"] if first else UNCHAINED
    return Start(chain, await trail.edge(db, tenant, first))


def in_use(spans: Sequence[KeySpan], size: int) -> list[Key]:
    """The keys that have signed a head up to that size."""
    used = [span for span in spans if span.first_size <= size]
    return [Key(span.key, span.first_size, None if span is used[-1] else span.last_size) for span in used]
