"""The sealed trail as it lies in Postgres, read: proofs out of the stored hashes, heads, keys. Whoever asks gets the
rows that their role may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from services.common.trail.merkle import HASH_BYTES, Edge, HashOf, consistency_path, inclusion_path, node_hash
from services.common.trail.signing import VerifierKey

STRIDE = 4
"""Levels of which the hashes of complete subtrees are stored: 0 with the leaves, then each fourth."""

Node: TypeAlias = tuple[int, int]
"""Level and index of a complete subtree."""

HASHES = """
SELECT level, first, CASE WHEN level = 0 THEN (
    SELECT string_agg(leaf, ''::bytea ORDER BY index) FROM soma.audit
    WHERE tenant = $1 AND index >= first AND index < first + count
) ELSE (
    SELECT string_agg(hash, ''::bytea ORDER BY index) FROM soma.audit_hashes h
    WHERE tenant = $1 AND h.level = wanted.level AND index >= first AND index < first + count
) END AS hashes
FROM unnest($2::int2[], $3::bigint[], $4::int[]) AS wanted (level, first, count)
"""
HEADS = """
SELECT size, root, checkpoint, key_id, time FROM soma.tree_heads
WHERE tenant = $1 AND size < $2 ORDER BY size DESC LIMIT $3
"""
COVERING = """
SELECT size, root, checkpoint, key_id, time FROM soma.tree_heads
WHERE tenant = $1 AND size >= $2 ORDER BY size LIMIT 1
"""
KEYS = """
SELECT name, public, first_size, lead(first_size) OVER (ORDER BY number) AS last_size, time
FROM soma.audit_keys WHERE tenant = $1 ORDER BY number
"""
BEYOND_ANY = 2**63 - 1


class Reading(Protocol):
    """A transaction, or whatever else reads rows."""

    async def fetch(self, statement: str, *values: object) -> Sequence[Any]: ...


class Incomplete(LookupError):  # noqa: N818 - what the trail is
    """The stored trail lacks hashes that a tree of this size must have."""


@dataclass(frozen=True, slots=True)
class Head:
    """A signed tree head."""

    size: int
    root: bytes
    checkpoint: str
    """The signed note."""
    key_id: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class KeySpan:
    """A key and the heads that it signs."""

    key: VerifierKey
    first_size: int
    last_size: int | None
    """None: it still signs. Else the next key's first, which both sign."""
    time: datetime


async def inclusion(db: Reading, tenant: str, index: int, size: int) -> list[bytes]:
    """merkle.inclusion_path out of the stored trail. ValueError when the tree has no such leaf."""
    return await _proof(db, tenant, lambda hash_of: inclusion_path(index, size, hash_of))


async def consistency(db: Reading, tenant: str, first: int, second: int) -> list[bytes]:
    """merkle.consistency_path out of the stored trail. ValueError for sizes that cannot be."""
    return await _proof(db, tenant, lambda hash_of: consistency_path(first, second, hash_of))


async def edge(db: Reading, tenant: str, size: int) -> Edge:
    """The right edge of the tree as it was at a size."""
    hashes = await _proof(db, tenant, lambda hash_of: [hash_of(*node) for node in edge_nodes(size)])
    return Edge(size, tuple(hashes))


def edge_nodes(size: int) -> list[Node]:
    """The complete subtrees that make up a tree of that size, the largest first."""
    levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
    return [(level, (size >> level) - 1) for level in levels]


async def heads(db: Reading, tenant: str, *, below: int = BEYOND_ANY, most: int = 100) -> list[Head]:
    """The newest first, of fewer leaves than `below`."""
    return [Head(**row) for row in await db.fetch(HEADS, tenant, below, most)]


async def covering(db: Reading, tenant: str, size: int) -> Head | None:
    """The oldest head of at least so many leaves."""
    rows = await db.fetch(COVERING, tenant, size)
    return Head(**rows[0]) if rows else None


async def keys(db: Reading, tenant: str) -> list[KeySpan]:
    """The oldest first."""
    return [
        KeySpan(VerifierKey(row["name"], row["public"]), row["first_size"], row["last_size"], row["time"])
        for row in await db.fetch(KEYS, tenant)
    ]


async def _proof(db: Reading, tenant: str, path: Callable[[HashOf], list[bytes]]) -> list[bytes]:
    """Asks once for what the path will ask for, in one statement, and then walks it."""
    asked: dict[Node, bytes] = {}
    path(lambda level, index: asked.setdefault((level, index), bytes(HASH_BYTES)))
    known = await _hashes(db, tenant, [*asked])
    return path(lambda level, index: known[level, index])


async def _hashes(db: Reading, tenant: str, nodes: Sequence[Node]) -> Mapping[Node, bytes]:
    ranges = {node: stored_range(*node) for node in nodes}
    levels, firsts, counts = zip(*ranges.values(), strict=True) if ranges else ((), (), ())
    rows = await db.fetch(HASHES, tenant, list(levels), list(firsts), list(counts)) if ranges else []
    found = {(row["level"], row["first"]): row["hashes"] or b"" for row in rows}
    return {node: _joined(found.get((level, first), b""), count) for node, (level, first, count) in ranges.items()}


def stored_range(level: int, index: int) -> tuple[int, int, int]:
    """Where the subtree's hash is stored or can be made of: a level, the first index there, and how many."""
    rest = level % STRIDE
    return level - rest, index << rest, 1 << rest


def _joined(packed: bytes, count: int) -> bytes:
    """The root over `count` hashes, a power of two."""
    if len(packed) != count * HASH_BYTES:
        raise Incomplete(f"{count * HASH_BYTES - len(packed)} bytes of hashes are missing in the stored trail")
    row = [packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]
