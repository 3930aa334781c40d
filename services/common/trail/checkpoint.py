"""What a sealer signs: a C2SP checkpoint, one signed note a tree head. Pure.

soma.local/audit/acme
3
<root, base64>
chain <base64>
time 2031-02-03T04:05:06.789Z

— soma.local/audit/acme <key id and signature, base64>
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime

from services.common.clock import rfc3339
from services.common.trail.merkle import CHAIN_BYTES, HASH_BYTES

ORIGIN = "soma.local/audit/"
DASH = "— "
KEY_ID_BYTES, SIGNATURE_BYTES = 4, 64
LONGEST_NOTE = 16 * 1024
"""Characters."""
SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
KEY_NAME = re.compile(r"[^\s+]+")


class Malformed(ValueError):  # noqa: N818 - what a text is
    """It is no checkpoint, signed note or verifier key line of ours. The text says where it is wrong."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: what the trail was at one size."""

    origin: str
    size: int
    root: bytes
    chain: bytes
    time: datetime
    """When it was made, in UTC, to the millisecond."""

    @property
    def text(self) -> str:
        """What is signed, to the byte (UTF-8)."""
        root, chain = encoded(self.root), encoded(self.chain)
        return f"{self.origin}\n{self.size}\n{root}\nchain {chain}\ntime {rfc3339(self.time)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The one way to write it is the only one accepted. Raises Malformed."""
        lines = text.split("\n")
        if len(lines) != 6 or lines[5]:
            raise Malformed("A checkpoint has five lines: origin, size, root, chain and time.")
        origin, size, root, chain, time = lines[:5]
        if not KEY_NAME.fullmatch(origin):
            raise Malformed("The first line must be the origin, without spaces.")
        if not SIZE.fullmatch(size):
            raise Malformed(f"The second line must be the size, not {size[:40]!r}.")
        return cls(
            origin,
            int(size),
            decoded(root, HASH_BYTES, "The root"),
            decoded(_after("chain ", chain), CHAIN_BYTES, "The chain"),
            _moment(_after("time ", time)),
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """Somebody's signature line under a note."""

    name: str
    key_id: bytes
    raw: bytes
    """64 bytes of Ed25519."""

    @property
    def line(self) -> str:
        return f"{DASH}{self.name} {encoded(self.key_id + self.raw)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and who signed it (C2SP signed-note). Holding one says nothing about whether they did."""

    text: str
    """Ends with a newline; it is what was signed."""
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(signature.line for signature in self.signatures)

    @classmethod
    def parse(cls, note: str) -> Note:
        """Raises Malformed. Every signature must be of Ed25519's length."""
        if len(note) > LONGEST_NOTE:
            raise Malformed(f"A note has {LONGEST_NOTE} characters at most; this has {len(note)}.")
        if any(char < " " and char != "\n" for char in note):
            raise Malformed("A note holds no control characters.")
        text, blank, rest = note.rpartition("\n\n")
        if not blank or not text or not rest.endswith("\n"):
            raise Malformed("A note is a text, an empty line, and signature lines, each with its end of line.")
        return cls(f"{text}\n", tuple(_signature(line) for line in rest[:-1].split("\n")))


def origin(tenant: str) -> str:
    """The tree's name, which is also the name of the keys that sign it."""
    return ORIGIN + tenant


def tenant_of(name: str) -> str:
    """Whose tree it is. Raises Malformed."""
    if not name.startswith(ORIGIN) or len(name) == len(ORIGIN):
        raise Malformed(f"{name[:80]!r} is not the origin of an audit trail: {ORIGIN}<tenant>.")
    return name[len(ORIGIN) :]


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decoded(text: str, length: int, what: str) -> bytes:
    """Standard base64, written the one right way, of so many bytes. Raises Malformed, which begins with `what`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise Malformed(f"{what} is not base64: {text[:80]!r}.") from fault
    if len(raw) != length or encoded(raw) != text:
        raise Malformed(f"{what} must be {length} bytes in base64.")
    return raw


def _signature(line: str) -> Signature:
    dash, name, raw = line[: len(DASH)], *line[len(DASH) :].partition(" ")[::2]
    if dash != DASH or not KEY_NAME.fullmatch(name):
        raise Malformed(f"A signature line is '— <key name> <base64>', not {line[:80]!r}.")
    both = decoded(raw, KEY_ID_BYTES + SIGNATURE_BYTES, f"The signature of {name}")
    return Signature(name, both[:KEY_ID_BYTES], both[KEY_ID_BYTES:])


def _after(word: str, line: str) -> str:
    if not line.startswith(word):
        raise Malformed(f"A line must begin with {word.strip()!r}; it is {line[:40]!r}.")
    return line[len(word) :]


def _moment(text: str) -> datetime:
    if not TIME.fullmatch(text):
        raise Malformed(f"The time must be RFC 3339 in UTC with milliseconds, not {text[:40]!r}.")
    try:
        return datetime.fromisoformat(text)
    except ValueError as fault:
        raise Malformed(f"There is no such time as {text}.") from fault
