"""The trees in Postgres: who holds one may append, and nothing that was appended is touched again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

from services.common.db import Transaction
from services.common.trail.checkpoint import Checkpoint
from services.common.trail.merkle import UNCHAINED, Edge, Grown
from services.common.trail.signing import VerifierKey
from services.common.trail.trail import STRIDE

Columns: TypeAlias = tuple[object, ...]

PLANT = """
INSERT INTO soma.audit_trees (tenant, size, edge, chain)
SELECT name, 0, '', $2 FROM soma.tenants WHERE name = ANY($1) ORDER BY name ON CONFLICT DO NOTHING
"""
LOCK = "SELECT tenant, size, edge, chain FROM soma.audit_trees WHERE tenant = ANY($1) ORDER BY tenant FOR UPDATE"
KEYS = """
SELECT DISTINCT ON (tenant) tenant, name, public FROM soma.audit_keys WHERE tenant = ANY($1)
ORDER BY tenant, number DESC
"""
SEALED = """
SELECT told.tenant, told.id FROM unnest($1::text[], $2::uuid[]) AS told (tenant, id)
WHERE told.tenant = ANY (ARRAY(SELECT a.tenant FROM soma.audit a WHERE a.id = told.id))
"""
ADD_KEY = """
INSERT INTO soma.audit_keys (tenant, number, name, key_id, public, first_size, time)
SELECT $1, count(*) + 1, $2, $3, $4, $5, $6 FROM soma.audit_keys WHERE tenant = $1
"""
ADD_LEAVES = """
INSERT INTO soma.audit (tenant, index, id, canonical, leaf, chain, time, action, subject, resource, outcome)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[], $7::timestamptz[],
                     $8::text[], $9::text[], $10::text[], $11::text[])
"""
ADD_HASHES = """
INSERT INTO soma.audit_hashes (tenant, level, index, hash)
SELECT * FROM unnest($1::text[], $2::int2[], $3::bigint[], $4::bytea[])
"""
ADD_HEADS = """
INSERT INTO soma.tree_heads (tenant, size, root, checkpoint, key_name, key_id, time)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[])
"""
GROW = """
UPDATE soma.audit_trees AS tree SET size = grown.size, edge = grown.edge, chain = grown.chain
FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::bytea[]) AS grown (tenant, size, edge, chain)
WHERE tree.tenant = grown.tenant
"""


class Event(msgspec.Struct):
    """What the columns repeat of an audit event."""

    id: UUID
    tenant: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    action: str
    subject: str
    outcome: str
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An audit event and its bytes."""

    event: Event
    canonical: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """Where a tenant's tree stands."""

    tenant: str
    edge: Edge
    chain: bytes
    key: VerifierKey | None
    """Signs its heads. None: it has none yet."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a tree has grown by, and the head over it."""

    tree: Tree
    told: Sequence[Told]
    leaves: Sequence[bytes]
    chain: Sequence[bytes]
    """After each leaf."""
    grown: Sequence[Grown]
    head: Checkpoint
    note: str
    key: VerifierKey

    @property
    def first(self) -> int:
        """Index of the first leaf."""
        return self.head.size - len(self.leaves)


_decoder = msgspec.json.Decoder(Event)


def read(canonical: bytes) -> Told:
    """Raises ValueError for what is no audit event."""
    return Told(_decoder.decode(canonical), canonical)


async def lock(tx: Transaction, tenants: Sequence[str]) -> Mapping[str, Tree]:
    """The tenants' trees, this transaction's until its end, without those of tenants that the mesh does not serve: no
    tree is begun for them. `tenants` in one order everywhere, so that nobody waits for one who waits for them."""
    await tx.execute(PLANT, tenants, UNCHAINED)
    rows = await tx.fetch(LOCK, tenants)
    keys = {row["tenant"]: VerifierKey(row["name"], row["public"]) for row in await tx.fetch(KEYS, tenants)}
    return {
        row["tenant"]: Tree(row["tenant"], Edge.of(row["size"], row["edge"]), row["chain"], keys.get(row["tenant"]))
        for row in rows
    }


async def unsealed(tx: Transaction, told: Iterable[Told]) -> Mapping[str, Sequence[Told]]:
    """By tenant, in the order given: each event once, without those that have a leaf. For who holds the trees."""
    once = {(each.event.tenant, each.event.id): each for each in told}
    for row in await tx.fetch(SEALED, [tenant for tenant, _ in once], [id for _, id in once]):
        del once[row["tenant"], row["id"]]
    fresh: dict[str, list[Told]] = {}
    for each in once.values():
        fresh.setdefault(each.event.tenant, []).append(each)
    return fresh


async def add_key(tx: Transaction, tenant: str, key: VerifierKey, first_size: int, now: datetime) -> None:
    """For who holds the tree."""
    await tx.execute(ADD_KEY, tenant, key.name, key.id, key.raw, first_size, now)


async def write(tx: Transaction, sealed: Sequence[Sealed]) -> None:
    """For who holds the trees."""
    if not sealed:
        return
    await tx.execute(ADD_LEAVES, *columns(row for each in sealed for row in leaf_rows(each)))
    hashes = [row for each in sealed for row in hash_rows(each)]
    if hashes:
        await tx.execute(ADD_HASHES, *columns(hashes))
    await tx.execute(ADD_HEADS, *columns(map(head_row, sealed)))
    await tx.execute(GROW, *columns(map(tree_row, sealed)))


def leaf_rows(sealed: Sealed) -> Iterator[Columns]:
    rows = zip(sealed.told, sealed.leaves, sealed.chain, strict=True)
    for index, (told, leaf, chain) in enumerate(rows, start=sealed.first):
        event = told.event
        yield (
            event.tenant, index, event.id, told.canonical, leaf, chain,
            event.time, event.action, event.subject, event.resource, event.outcome,
        )  # fmt: skip


def hash_rows(sealed: Sealed) -> Iterator[Columns]:
    for row in sealed.grown:
        if row.level and row.level % STRIDE == 0:
            for index, found in enumerate(row.hashes, start=row.first):
                yield sealed.tree.tenant, row.level, index, found


def head_row(sealed: Sealed) -> Columns:
    head, key = sealed.head, sealed.key
    return sealed.tree.tenant, head.size, head.root, sealed.note, key.name, key.id, head.time


def tree_row(sealed: Sealed) -> Columns:
    tree = sealed.tree
    return tree.tenant, tree.edge.size, tree.edge.packed, tree.chain


def columns(rows: Iterable[Columns]) -> Iterator[list[object]]:
    return map(list, zip(*rows, strict=True))
