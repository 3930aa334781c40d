"""The tree over the audit trail: RFC 6962 over SHA-256, as C2SP's logs have it, and the chain beside it. Pure.

A complete subtree (level, index) covers the 2**level leaves from index * 2**level on; level 0 are the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha3_512, sha256
from typing import TypeAlias

HASH_BYTES = 32
CHAIN_BYTES = 64
EMPTY_ROOT = sha256().digest()
UNCHAINED = bytes(CHAIN_BYTES)
"""The chain before the first leaf."""

HashOf: TypeAlias = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree (level, index)."""


def leaf_hash(canonical: bytes) -> bytes:
    return sha256(b"\x00" + canonical).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def link(chain: bytes, leaf: bytes) -> bytes:
    """The chain after one more leaf: SHA3-512 of the chain before and the leaf's hash."""
    return sha3_512(chain + leaf).digest()


def links(chain: bytes, leaves: Iterable[bytes]) -> list[bytes]:
    """The chain after each of them."""
    return [chain := sha3_512(chain + leaf).digest() for leaf in leaves]


@dataclass(frozen=True, slots=True)
class Grown:
    """Complete subtrees of one level that are new, side by side from `first` on."""

    level: int
    first: int
    hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: all it takes to append and to tell the root."""

    size: int = 0
    """How many leaves."""
    hashes: tuple[bytes, ...] = ()
    """Of the complete subtrees that make up the tree, the largest first: one for each bit of the size."""

    @classmethod
    def of(cls, size: int, packed: bytes) -> Edge:
        """What `packed` was made of. ValueError when it does not fit the size."""
        if size < 0 or len(packed) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"an edge of {size} leaves has {size.bit_count()} hashes, not {len(packed)} bytes")
        return cls(size, tuple(packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)))

    @property
    def packed(self) -> bytes:
        return b"".join(self.hashes)

    @property
    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            root = node_hash(left, root)
        return root

    def append(self, leaf: bytes) -> Edge:
        return self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> Edge:
        return self.grow(leaves)[0]

    def grow(self, leaves: Sequence[bytes]) -> tuple[Edge, list[Grown]]:
        """The edge with these leaves appended, and every complete subtree that is new, the leaves first."""
        kept, smaller = list(self.hashes), []
        level, fresh, grown = 0, list(leaves), []
        while fresh:
            first = self.size >> level
            grown.append(Grown(level, first, fresh))
            row = [kept.pop(), *fresh] if first & 1 else fresh
            if len(row) & 1:
                smaller.append(row[-1])
            fresh = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]
            level += 1
        return Edge(self.size + len(leaves), (*kept, *reversed(smaller))), grown


def inclusion_path(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """Proves that a leaf is in the tree of that size: the siblings on its way up, the lowest first. ValueError when the
    tree has no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    return _path(index, 0, size, hash_of)


def consistency_path(first: int, second: int, hash_of: HashOf) -> list[bytes]:
    """Proves that the tree of `second` leaves begins with the one of `first`. Empty for none and for equal sizes."""
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} leaves cannot begin with one of {first}")
    return _subproof(first, 0, second, hash_of, known=True) if first else []


def root_of(size: int, hash_of: HashOf) -> bytes:
    """The root of the tree of that size."""
    return _hash(0, size, hash_of) if size else EMPTY_ROOT


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path leads from the leaf's hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or any(len(sibling) != HASH_BYTES for sibling in path):
        return False
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(first: int, second: int, path: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Whether the path shows that the second tree begins with the first (RFC 9162, 2.1.4.2)."""
    if not 0 <= first <= second or any(len(sibling) != HASH_BYTES for sibling in path):
        return False
    if first == 0:
        return not path and first_root == EMPTY_ROOT and (second > 0 or second_root == EMPTY_ROOT)
    if first == second:
        return not path and first_root == second_root
    siblings = list(path)
    if first & (first - 1) == 0:
        siblings.insert(0, first_root)
    return bool(siblings) and _both(first - 1, second - 1, siblings) == (first_root, second_root)


def _both(at: int, last: int, siblings: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The two roots that the siblings lead to. None when there are too many or too few."""
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = siblings[0]
    for sibling in siblings[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    return (old, new) if last == 0 else None


def _path(index: int, low: int, high: int, hash_of: HashOf) -> list[bytes]:
    if high - low == 1:
        return []
    middle = low + _split(high - low)
    if index < middle:
        return [*_path(index, low, middle, hash_of), _hash(middle, high, hash_of)]
    return [*_path(index, middle, high, hash_of), _hash(low, middle, hash_of)]


def _subproof(first: int, low: int, high: int, hash_of: HashOf, *, known: bool) -> list[bytes]:
    """For the leaves before `first` among those from low to high. Known: the verifier has this subtree's hash."""
    if first == high:
        return [] if known else [_hash(low, high, hash_of)]
    middle = low + _split(high - low)
    if first <= middle:
        return [*_subproof(first, low, middle, hash_of, known=known), _hash(middle, high, hash_of)]
    return [*_subproof(first, middle, high, hash_of, known=False), _hash(low, middle, hash_of)]


def _hash(low: int, high: int, hash_of: HashOf) -> bytes:
    """Of the leaves from low to high, which begin a subtree."""
    count = high - low
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return hash_of(level, low >> level)
    middle = low + _split(count)
    return node_hash(_hash(low, middle, hash_of), _hash(middle, high, hash_of))


def _split(count: int) -> int:
    """The largest power of two below."""
    return 1 << ((count - 1).bit_length() - 1)
