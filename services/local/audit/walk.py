"""One way through an audit file, line by line: what has been read so far, and that it holds. Pure."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from hashlib import sha3_512, sha256
from itertools import islice

from services.common.trail.checkpoint import Malformed
from services.common.trail.merkle import UNCHAINED, Edge, leaf_hash, link
from services.local.audit.finding import Finding, Gap, Kind, Misfit, Wrong
from services.local.audit.form import END, EVENT, HEAD, KEY, START, End, Header, Key, Start, number, parse_head
from services.local.audit.heads import Heads

SAMPLE_EVERY = 1000
"""Which events are read as JSON and written anew, beside the first and the last of the file."""
WORD = EVENT.encode()


class Walk:
    """Give it blocks of lines in order. What does not hold is raised as Wrong, and `at` is then the line's place in the
    block."""

    def __init__(self, fault_of: Callable[[str, bytes], str], watched: int = -1) -> None:
        """`fault_of` says what is wrong with the JSON of a tenant's event, or nothing. `watched` is a size whose root
        and chain are wanted."""
        self.header = Header("", "")
        self.heads = Heads("")
        self.first = self.size = self.at = 0
        self.chain, self.edge = b"", Edge()
        self.seen: tuple[bytes, bytes] | None = None
        """Root and chain at the watched size."""
        self.end: End | None = None
        self.is_begun = False
        self._fault_of, self._watched = fault_of, watched
        self._newest = b""

    @property
    def place(self) -> str:
        return f"after event {self.size - 1}" if self.size > self.first else "before its first event"

    def take(self, block: Sequence[bytes]) -> None:
        self.at = 0
        while self.at < len(block):
            if self.is_begun and not self.end:
                self._events(block)
            if self.at < len(block):
                self._other(block[self.at])
                self.at += 1

    def check_newest(self) -> None:
        """The last event is in the sample too."""
        if self.size > self.first:
            self._check(self.size - 1, self._newest)

    def _events(self, block: Sequence[bytes]) -> None:
        """Event lines from here on, up to the next other one: each in its place, each the chain's next. This is the one
        loop that has to be fast."""
        size, chain, leaves = self.size, self.chain, list[bytes]()
        for line in islice(block, self.at, None):
            word, _, rest = line.partition(b" ")
            if word != WORD:
                break
            index, _, rest = rest.partition(b" ")
            stated, _, canonical = rest.partition(b" ")
            if index != b"%d" % size:
                self.at += len(leaves)
                raise displaced(size, index, fits=chained(chain, canonical) == stated)
            leaf = sha256(b"\x00" + canonical).digest()
            linked = sha3_512(chain + leaf).digest()
            if b2a_base64(linked, newline=False) != stated:
                self.at += len(leaves)
                raise Misfit(size, chain, stated)
            chain = linked
            leaves.append(leaf)
            size += 1
        if leaves:
            self._grow(block[self.at : self.at + len(leaves)], leaves, chain)

    def _grow(self, lines: Sequence[bytes], leaves: Sequence[bytes], chain: bytes) -> None:
        """Take up events that continue the chain: the tree, the sample, and what is watched for."""
        part = self._watched - self.size
        if 0 < part < len(leaves):
            self._grow(lines[:part], leaves[:part], a2b_base64(lines[part - 1].split(b" ", 3)[2]))
            lines, leaves = lines[part:], leaves[part:]
        for at in range(-self.size % SAMPLE_EVERY, len(lines), SAMPLE_EVERY):
            self._check(self.size + at, lines[at])
        if self.size == self.first:
            self._check(self.size, lines[0])
        self.edge, self.chain, self._newest = self.edge.extend(leaves), chain, lines[-1]
        self.size += len(leaves)
        self.at += len(leaves)
        self._watch()

    def _watch(self) -> None:
        if self.size == self._watched:
            self.seen = self.edge.root, self.chain

    def _check(self, index: int, line: bytes) -> None:
        if fault := self._fault_of(self.header.tenant, line.split(b" ", 3)[3]):
            text = f"Event {index} was sealed as it stands, but {fault}. Ask those who run the mesh how it came in."
            raise Wrong(Finding.at(Kind.MALFORMED, index, text))

    def _other(self, raw: bytes) -> None:
        try:
            self._read(text_of(raw))
        except Malformed as fault:
            text = f"The file breaks its format {self.place}: {fault} Get it anew; see docs/audit-format.md."
            index = self.size if self.is_begun else None
            raise Wrong(Finding(Kind.MALFORMED, index, index, text)) from fault

    def _read(self, line: str) -> None:
        """A line of another kind, each where it may stand."""
        word = line.partition(" ")[0]
        if self.end:
            raise Malformed("Something stands after the end line.")
        if not self.header.origin:
            self.header = Header.parse(line)
            self.heads = Heads(self.header.origin)
        elif word == KEY and not self.is_begun:
            self.heads.ring.add(Key.parse(line))
        elif word == START and not self.is_begun and self.heads.ring.keys:
            self._begin(Start.parse(line))
        elif word == HEAD and self.is_begun:
            self.heads.take(parse_head(line), self.size, self.edge.root, self.chain)
        elif word == END and self.is_begun:
            self.end = End.parse(line)
        else:
            raise Malformed(f"A line that begins with {word[:20]!r} cannot stand here.")

    def _begin(self, start: Start) -> None:
        if not start.edge.size and start.chain != UNCHAINED:
            raise Malformed("A trail begins with a chain of zero bytes.")
        self.edge, self.chain = start.edge, start.chain
        self.first = self.size = self.heads.good = start.edge.size
        self.is_begun = True
        self._watch()


def text_of(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as fault:
        raise Malformed("There are bytes that are no text (UTF-8).") from fault


def displaced(expected: int, index: bytes, *, fits: bool) -> Wrong:
    """Another index stands where the expected one should. `fits`: what stands behind it continues the chain."""
    try:
        found = number(index.decode())
    except (Malformed, UnicodeDecodeError):
        found = -1
    if fits or found < 0:
        text = (
            f"Where event {expected} should be, the index is {index[:20]!r}: the line was changed. Get the trail anew."
        )
        return Wrong(Finding.at(Kind.ALTERED, expected, text))
    if found > expected:
        return Gap(expected, found)
    text = f"Event {found} stands again where event {expected} should: lines were copied or moved. Get the trail anew."
    return Wrong(Finding.at(Kind.REORDERED, expected, text))


def chained(chain: bytes, canonical: bytes) -> bytes:
    """The chain after an event, as a line has it."""
    return b2a_base64(link(chain, leaf_hash(canonical)), newline=False)
