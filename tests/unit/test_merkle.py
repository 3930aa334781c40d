"""The tree is RFC 6962's: against its own recursive definition at every size, and against its known roots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.trail.merkle import (
    EMPTY_ROOT,
    UNCHAINED,
    Edge,
    consistency_path,
    inclusion_path,
    leaf_hash,
    link,
    links,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

MOST = 130
LEAVES = [leaf_hash(f"leaf {n}".encode()) for n in range(MOST)]
KNOWN_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
KNOWN_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def mth(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], *, known: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if known else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], known=known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], known=False), mth(leaves[:k])]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


ROOTS = [mth(LEAVES[:size]) for size in range(MOST + 1)]


def hash_of(level: int, index: int) -> bytes:
    return mth(LEAVES[index << level : (index + 1) << level])


def stored(limit: int) -> dict[tuple[int, int], bytes]:
    """What a log of that size has: no subtree that is not complete."""
    return {node: found for node, found in STORED.items() if (node[1] + 1) << node[0] <= limit}


STORED = {(level, index): hash_of(level, index) for level in range(8) for index in range(MOST >> level)}


def test_the_known_tree_has_its_known_roots() -> None:
    leaves = [leaf_hash(bytes.fromhex(text)) for text in KNOWN_LEAVES]
    for size, root in enumerate(KNOWN_ROOTS, start=1):
        assert Edge().extend(leaves[:size]).root.hex() == root
    assert Edge().root == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_an_edge_tells_the_root_at_every_size_however_it_got_there() -> None:
    one_by_one = Edge()
    for size in range(MOST + 1):
        assert one_by_one.root == ROOTS[size] == Edge().extend(LEAVES[:size]).root
        assert Edge.of(size, one_by_one.packed) == one_by_one
        if size < MOST:
            one_by_one = one_by_one.append(LEAVES[size])


@given(st.lists(st.integers(0, 40), max_size=8))
def test_any_cut_into_batches_gives_one_tree_and_each_subtree_once(batches: list[int]) -> None:
    edge, seen = Edge(), {}
    for count in batches:
        count = min(count, MOST - edge.size)
        edge, grown = edge.grow(LEAVES[edge.size : edge.size + count])
        for row in grown:
            for at, found in enumerate(row.hashes, start=row.first):
                assert (row.level, at) not in seen
                seen[row.level, at] = found
    assert edge.root == ROOTS[edge.size]
    assert seen == stored(edge.size)


def test_an_edge_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="an edge of 3 leaves has 2 hashes"):
        Edge.of(3, Edge().extend(LEAVES[:2]).packed)


def test_every_leaf_of_every_tree_has_the_path_of_the_definition_and_it_verifies() -> None:
    for size in (*range(1, 35), 63, 64, 65, 127, 128, 129, 130):
        for index in range(size):
            proof = inclusion_path(index, size, lambda level, at: STORED[level, at])
            if size < 35:
                assert proof == path(index, LEAVES[:size])
            assert verify_inclusion(index, size, LEAVES[index], proof, ROOTS[size])


def test_every_two_trees_have_the_proof_of_the_definition_and_it_verifies() -> None:
    for second in (*range(35), 64, 65, 127, 128, 129, 130):
        for first in range(second + 1):
            proof = consistency_path(first, second, lambda level, at: STORED[level, at])
            if first > 0 and second < 35:
                assert proof == subproof(first, LEAVES[:second], known=True)
            assert verify_consistency(first, second, proof, ROOTS[first], ROOTS[second])
    assert root_of(MOST, lambda level, at: STORED[level, at]) == ROOTS[MOST]


def test_what_is_not_in_the_tree_has_no_path() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 3)):
        with pytest.raises(ValueError, match="has no leaf"):
            inclusion_path(index, size, hash_of)
    with pytest.raises(ValueError, match="cannot begin with"):
        consistency_path(4, 3, hash_of)


def test_a_path_that_was_touched_proves_nothing() -> None:
    for size in range(1, 20):
        for index in range(size):
            proof, leaf, root = path(index, LEAVES[:size]), LEAVES[index], ROOTS[size]
            for wrong in (*altered(proof), [*proof, leaf], proof[:-1] if proof else [leaf]):
                assert not verify_inclusion(index, size, leaf, wrong, root)
            assert not verify_inclusion(index, size, LEAVES[index + 1], proof, root)
            assert not verify_inclusion(index, size, leaf, proof, ROOTS[size + 1])
            assert not any(
                verify_inclusion(other, size, leaf, proof, root) for other in range(-1, 21) if other != index
            )
            assert size < 2 or not verify_inclusion(index, size - 1, leaf, proof, ROOTS[size - 1])


def test_a_consistency_proof_that_was_touched_proves_nothing() -> None:
    for second in range(1, 20):
        for first in range(1, second + 1):
            proof = consistency_path(first, second, hash_of)
            roots = ROOTS[first], ROOTS[second]
            for wrong in (*altered(proof), [*proof, LEAVES[0]], proof[:-1] if proof else [LEAVES[0]]):
                assert not verify_consistency(first, second, wrong, *roots)
            assert not verify_consistency(first, second, proof, ROOTS[first - 1], ROOTS[second])
            assert not verify_consistency(first, second, proof, ROOTS[first], ROOTS[second + 1])
            assert not verify_consistency(second + 1, first, proof, *roots)
    assert not verify_consistency(0, 4, [LEAVES[0]], EMPTY_ROOT, ROOTS[4])
    assert not verify_consistency(0, 4, [], ROOTS[1], ROOTS[4])


def test_a_proof_between_smaller_trees_is_none_between_larger_ones() -> None:
    for first, second, larger in ((1, 2, 3), (2, 4, 5), (3, 7, 9), (6, 8, 20)):
        proof = consistency_path(first, second, hash_of)
        assert not verify_consistency(first, larger, proof, ROOTS[first], ROOTS[second])


def test_a_leaf_is_no_node() -> None:
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


def test_the_chain_is_sha3_512_over_the_chain_before_and_the_leaf() -> None:
    expected = bytes(64)
    for leaf in LEAVES[:5]:
        expected = hashlib.sha3_512(expected + leaf).digest()
    assert links(UNCHAINED, LEAVES[:5])[-1] == expected == link(links(UNCHAINED, LEAVES[:4])[-1], LEAVES[4])


def altered(proof: Sequence[bytes]) -> list[list[bytes]]:
    """The proof with one bit of each sibling turned, and a sibling cut short."""
    return [
        [*proof[:at], bad, *proof[at + 1 :]]
        for at, one in enumerate(proof)
        for bad in (bytes([one[0] ^ 1]) + one[1:], one[:-1])
    ]
