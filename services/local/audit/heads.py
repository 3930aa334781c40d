"""The signed heads of one file, each held against the events before it. Pure."""

from __future__ import annotations

from services.common.trail.checkpoint import Checkpoint, Malformed, Note
from services.local.audit.finding import Finding, Gap, Kind, Wrong, events
from services.local.audit.ring import Ring, Unsigned


class Heads:
    """Give it each head where it stands, with what the events before it lead to."""

    def __init__(self, origin: str) -> None:
        self.ring = Ring(origin)
        self.count = self.good = 0
        """`good`: so many events of the trail are under a signed head that they lead to."""
        self.last: Checkpoint | None = None
        self.doubt: Finding | None = None
        """They do not lead to a signed head. If they lead to a later one, those two contradict each other."""
        self._doubted = 0

    def take(self, text: str, size: int, root: bytes, chain: bytes) -> None:
        """Raises Wrong, and Malformed for what is no head of this trail."""
        note = Note.parse(text)
        head = Checkpoint.parse(note.text)
        if head.origin != self.ring.origin:
            raise Malformed(f"The head is of {head.origin[:80]!r}.")
        place(head.size, size)
        try:
            self.ring.check(note, head.size)
        except Unsigned as fault:
            raise Wrong(unsigned(self.good, head.size, str(fault))) from fault
        self._weigh(head, (head.root, head.chain) == (root, chain))
        self.last, self.count = head, self.count + 1

    def _weigh(self, head: Checkpoint, fits: bool) -> None:
        """Whether the events lead to a head that is signed."""
        if fits and self.doubt:
            raise Wrong(forked(self._doubted, head.size, self.doubt.index))
        if not fits and self.last and self.last.size == self.good == head.size:
            raise Wrong(forked(head.size, head.size, head.size - 1))
        if fits:
            self.good = head.size
        elif not self.doubt:
            self.doubt, self._doubted = unfit(self.good, head.size), head.size


def place(found: int, size: int) -> None:
    """A head stands right behind the last event that it covers."""
    if found > size:
        raise Gap(size, found)
    if found < size:
        text = (
            f"The head of size {found} stands after event {size - 1}: lines were copied or moved. Get the trail anew."
        )
        raise Wrong(Finding.at(Kind.REORDERED, size, text))


def unsigned(good: int, size: int, why: str) -> Finding:
    vouches = f" Nothing vouches for {events(good, size).lower()}." if good < size else ""
    text = f"The head of size {size} is not signed as it should be: {why}.{vouches} Get the trail and its keys anew."
    return Finding.between(Kind.WRONG_KEY, good, size, text)


def unfit(good: int, size: int) -> Finding:
    if good == size:
        text = f"The start line does not lead to the signed head of size {size}: it was altered. Get the trail anew."
        return Finding(Kind.ALTERED, size, None, text)
    text = (
        f"{events(good, size)} do not lead to the signed head of size {size}: something was altered, left out or "
        "added, and the chain was computed anew to hide it. Do not rely on them or on what follows."
    )
    return Finding.between(Kind.ALTERED, good, size, text)


def forked(one: int, other: int, first: int | None) -> Finding:
    text = (
        f"Two signed heads contradict each other, of size {one} and of size {other}: whoever holds the key told two "
        "histories. Keep both as evidence, and compare with heads that others were given."
    )
    return Finding(Kind.FORKED, first, min(one, other) - 1, text)
