"""An audit file proven or refuted: from itself, the keys that somebody pinned, and a head that they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.signing import VerifierKey, signer_of
from services.local.audit.ahead import explain
from services.local.audit.finding import Finding, Kind, Wrong, events
from services.local.audit.heads import forked
from services.local.audit.lines import Cut, Lines
from services.local.audit.sample import fault_of
from services.local.audit.walk import Walk


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the file holds, as far as it was read, and what is wrong with it."""

    tenant: str
    origin: str
    first: int
    size: int
    heads: int
    newest: Checkpoint | None
    trusted: Sequence[VerifierKey]
    """The keys that the verdict rests on."""
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the verifier has from elsewhere than the file."""

    pins: Sequence[VerifierKey] = ()
    note: Note | None = None
    """A head that somebody was given."""
    head: Checkpoint | None = None
    """What it says."""


def verify(file: BinaryIO, known: Known, seen: Callable[[int, int], None] = lambda *_: None) -> Verdict:
    """Reads the file once. `seen` is told bytes read on disk and the size reached."""
    walk = Walk(fault_of, known.head.size if known.head else -1)
    lines = Lines(file, lambda read: seen(read, walk.size))
    finding = find(walk, lines, known)
    heads = walk.heads
    trusted = heads.ring.trusted(known.pins)
    return Verdict(
        walk.header.tenant, walk.header.origin, walk.first, walk.size, heads.count, heads.last, trusted, finding
    )


def find(walk: Walk, lines: Lines, known: Known) -> Finding | None:
    """The first thing that is wrong."""
    blocks, block = iter(lines), list[bytes]()
    try:
        for block in blocks:
            walk.take(block)
        close(walk, lines.digest, known)
    except Cut as cut:
        return walk.heads.doubt or damaged(walk, cut)
    except Wrong as wrong:
        if wrong.finding.kind is Kind.FORKED:
            return wrong.finding
        return walk.heads.doubt or explain(wrong, readable(chain(block[walk.at :], chain.from_iterable(blocks))))
    return None


def readable(lines: Iterator[bytes]) -> Iterator[bytes]:
    """As far as they can be read."""
    try:
        yield from lines
    except Cut:
        return


def damaged(walk: Walk, cut: Cut) -> Finding:
    index = walk.size if walk.is_begun else None
    return Finding(Kind.MALFORMED, index, index, f"The file cannot be read on {walk.place}. {cut} Get it anew.")


def close(walk: Walk, digest: bytes, known: Known) -> None:
    """What shows at the end only. Raises Wrong."""
    if walk.heads.doubt:
        raise Wrong(walk.heads.doubt)
    check_tail(walk)
    walk.check_newest()
    check_keys(walk, known.pins)
    if known.head and known.note:
        check_head(walk, known.note, known.head, known.pins)
    check_end(walk, digest)


def check_tail(walk: Walk) -> None:
    size, good = walk.size, walk.heads.good
    if not walk.end:
        text = f"The file stops {walk.place}, without its last line: its tail was cut off. Get it anew."
        raise Wrong(Finding(Kind.CUT_TAIL, size if walk.is_begun else None, None, text))
    if walk.end.size > size:
        text = f"The file stops {walk.place}, and should hold all up to {walk.end.size - 1}: its tail was cut off."
        raise Wrong(Finding.between(Kind.CUT_TAIL, size, walk.end.size, text))
    if good < size or not walk.heads.last:
        text = f"No signed head covers {events(good, size).lower()}: it was cut off. Get the trail anew."
        raise Wrong(Finding.between(Kind.CUT_TAIL, good, size, text))


def check_keys(walk: Walk, pins: Sequence[VerifierKey]) -> None:
    """The pinned keys must vouch for all of it."""
    ring, size = walk.heads.ring, walk.size
    if not ring.trusted(pins):
        text = "No head is signed with the key that you gave. The file is of another trail, or somebody made it up."
        raise Wrong(Finding.between(Kind.WRONG_KEY, walk.first, size, text))
    vouched = ring.vouched(pins)
    if vouched < size:
        text = (
            f"The keys that you gave vouch for the events before {vouched}; those from there on are signed with "
            "another key. Ask for it at a place that you trust, and give it too with --key."
        )
        raise Wrong(Finding.between(Kind.WRONG_KEY, max(vouched, walk.first), size, text))


def check_head(walk: Walk, note: Note, head: Checkpoint, pins: Sequence[VerifierKey]) -> None:
    """A head from elsewhere: this trail must lead to it, or be the beginning of it."""
    if head.origin != walk.header.origin or not signer_of(note, [*walk.heads.ring.trusted(pins), *pins]):
        text = (
            "The head that you gave is not signed with a key of this trail. If the key was rotated since, "
            "give the new one too with --key."
        )
        raise Wrong(Finding(Kind.WRONG_KEY, None, None, text))
    if head.size > walk.size:
        text = (
            f"The head that you gave covers {head.size} events, and the file {walk.size}: the tail is missing. "
            "If it should not be newer than the head, somebody cut it off."
        )
        raise Wrong(Finding.between(Kind.CUT_TAIL, walk.size, head.size, text))
    if head.size < walk.first:
        text = f"The head that you gave covers {head.size} events; the file begins later. Export from there or before."
        raise Wrong(Finding(Kind.MISSING, head.size, walk.first - 1, text))
    if walk.seen != (head.root, head.chain):
        raise Wrong(forked(head.size, walk.size, None))


def check_end(walk: Walk, digest: bytes) -> None:
    end = walk.end
    if not end or (end.events, end.size, end.heads) != (walk.size - walk.first, walk.size, walk.heads.count):
        text = "The end line counts otherwise than the file: lines were taken out or added. Get the file anew."
        raise Wrong(Finding(Kind.MALFORMED, None, None, text))
    if end.digest != digest:
        text = (
            "Every event and head holds, but the file is not as it was written: a line beside them was changed. "
            "Get the file anew."
        )
        raise Wrong(Finding(Kind.ALTERED, None, None, text))
