"""The lines of an audit file, one class a kind (docs/audit-format.md). Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from services.common.trail.checkpoint import KEY_NAME, Malformed, decoded, encoded, tenant_of
from services.common.trail.merkle import CHAIN_BYTES, HASH_BYTES, Edge
from services.common.trail.signing import VerifierKey

FORMAT, VERSION = "soma-audit", 1
KEY, START, EVENT, HEAD, END = "key", "start", "event", "head", "end"
NOTHING = "-"
"""Stands where a field has no value."""
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: whose trail."""

    tenant: str
    origin: str

    @property
    def line(self) -> str:
        return f"{FORMAT} {VERSION} {self.tenant} {self.origin}"

    @classmethod
    def parse(cls, line: str) -> Header:
        word, version, *rest = [*line.split(" "), "", ""]
        if word != FORMAT:
            raise Malformed(f"An audit file begins with the word {FORMAT}; this one begins with {line[:20]!r}.")
        if version != str(VERSION):
            raise Malformed(
                f"The file has format {version[:20]!r}; this release reads {VERSION}. Take a newer release."
            )
        tenant, origin = rest[0], rest[1]
        if line != cls(tenant, origin).line or not KEY_NAME.fullmatch(origin) or tenant_of(origin) != tenant:
            raise Malformed(f"The first line must be '{FORMAT} {VERSION} <tenant> <origin>', the origin the tenant's.")
        return cls(tenant, origin)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and the sizes of the first and the last head that it signed."""

    key: VerifierKey
    first: int
    last: int | None = None
    """None: it is in use."""

    @property
    def line(self) -> str:
        return f"{KEY} {self.first} {NOTHING if self.last is None else self.last} {self.key.line}"

    @classmethod
    def parse(cls, line: str) -> Key:
        first, last, key = fields(line, KEY, 3)
        found = cls(VerifierKey.parse(key), number(first), None if last == NOTHING else number(last))
        if found.last is not None and found.last < found.first:
            raise Malformed("A key's last head cannot be smaller than its first.")
        return found

    def covers(self, size: int) -> bool:
        return self.first <= size and (self.last is None or size <= self.last)


@dataclass(frozen=True, slots=True)
class Start:
    """Where the file begins: the chain and the tree as they were before the first event in it."""

    chain: bytes
    edge: Edge

    @property
    def line(self) -> str:
        hashes = ",".join(encoded(each) for each in self.edge.hashes) or NOTHING
        return f"{START} {self.edge.size} {encoded(self.chain)} {hashes}"

    @classmethod
    def parse(cls, line: str) -> Start:
        index, chain, hashes = fields(line, START, 3)
        each = [] if hashes == NOTHING else [decoded(one, HASH_BYTES, "A hash") for one in hashes.split(",")]
        try:
            edge = Edge.of(number(index), b"".join(each))
        except ValueError as fault:
            raise Malformed(f"The start does not fit: {fault}.") from fault
        return cls(decoded(chain, CHAIN_BYTES, "The chain"), edge)


@dataclass(frozen=True, slots=True)
class End:
    """The last line: what the file holds, so that a cut is noticed."""

    events: int
    size: int
    heads: int
    digest: bytes
    """SHA-256 of everything before this line."""

    @property
    def line(self) -> str:
        return f"{END} {self.events} {self.size} {self.heads} {encoded(self.digest)}"

    @classmethod
    def parse(cls, line: str) -> End:
        events, size, heads, digest = fields(line, END, 4)
        return cls(number(events), number(size), number(heads), decoded(digest, HASH_BYTES, "The hash"))


def event_line(index: int, chain: bytes, canonical: bytes) -> bytes:
    """ValueError when the bytes would not stay one line: canonical JSON never holds a line's end."""
    if b"\n" in canonical:
        raise ValueError(f"event {index} is not canonical JSON: it holds the end of a line")
    return b"event %d %s %s" % (index, encoded(chain).encode(), canonical)


def head_line(note: str) -> str:
    return f"{HEAD} {json.dumps(note, ensure_ascii=False)}"


def parse_head(line: str) -> str:
    """The signed note, as it was signed."""
    try:
        note = json.loads(line[len(HEAD) + 1 :])
    except ValueError as fault:
        raise Malformed(f"A head is a JSON string: {fault}.") from fault
    if not isinstance(note, str) or head_line(note) != line:
        raise Malformed("A head is a JSON string, written the one usual way.")
    return note


def fields(line: str, kind: str, count: int) -> list[str]:
    found = line.split(" ")
    if found[0] != kind or len(found) != count + 1:
        raise Malformed(f"The line must be '{kind}' and {count} fields, not {line[:80]!r}.")
    return found[1:]


def number(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise Malformed(f"{text[:40]!r} is no number.")
    return int(text)
