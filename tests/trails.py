"""Audit files as a mesh writes them, and as somebody who tampers would."""

from __future__ import annotations

import asyncio
import io
import random
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from services.common.schemas import canonical
from services.common.trail.checkpoint import Checkpoint, Note, Signature, origin
from services.common.trail.merkle import UNCHAINED, Edge, leaf_hash, link, links
from services.common.trail.signing import FileSigningKeys, Signer, VerifierKey
from services.local.audit.form import End, Header, Key, Start
from services.local.audit.writer import Writer

TENANT = "acme"
ORIGIN = origin(TENANT)
EVENTS, ROTATED, HEAD_EVERY = 200, 120, 17
NOON = datetime(2031, 2, 3, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hand:
    """Whoever holds a key."""

    key: VerifierKey
    signer: Signer

    @classmethod
    def new(cls, folder: Path, name: str = ORIGIN) -> Hand:
        async def make() -> Hand:
            keys = FileSigningKeys(folder)
            key = await keys.make(name)
            return cls(key, await keys.signer(key))

        return asyncio.run(make())

    def sign(self, text: str) -> Signature:
        return asyncio.run(self.signer.sign(text))


@dataclass(frozen=True, slots=True)
class Trail:
    """A trail whose key was rotated once: `old` signs up to ROTATED, `new` from there on, both sign that head."""

    old: Hand
    new: Hand
    texts: Sequence[bytes]

    @classmethod
    def make(cls, folder: Path, seed: int = 1, count: int = EVENTS) -> Trail:
        chance = random.Random(seed)
        return cls(Hand.new(folder), Hand.new(folder), [event(index, chance) for index in range(count)])

    def file(self, first: int = 0, end: int | None = None) -> list[bytes]:
        """Its lines, without their ends."""
        written = io.BytesIO()
        writer, texts = Writer(written), self.texts[:end]
        chains = links(UNCHAINED, map(leaf_hash, texts))
        writer.begin(Header(TENANT, ORIGIN), self.keys(len(texts)), self.start(first))
        for index in range(first, len(texts)):
            writer.event(index, chains[index], texts[index])
            if self.has_head(index + 1, len(texts)):
                writer.head(str(self.head(index + 1)))
        writer.end()
        return written.getvalue().split(b"\n")[:-1]

    def keys(self, size: int) -> list[Key]:
        return (
            [Key(self.old.key, 1, ROTATED), Key(self.new.key, ROTATED)] if size >= ROTATED else [Key(self.old.key, 1)]
        )

    def start(self, first: int) -> Start:
        edge, chain = self.at(first)
        return Start(chain, edge)

    def at(self, size: int) -> tuple[Edge, bytes]:
        leaves = [leaf_hash(text) for text in self.texts[:size]]
        return Edge().extend(leaves), [UNCHAINED, *links(UNCHAINED, leaves)][-1]

    def has_head(self, size: int, end: int) -> bool:
        return size % HEAD_EVERY == 0 or size in (ROTATED, end)

    def head(self, size: int, *hands: Hand) -> Note:
        """Signed as it should be, or by these."""
        edge, chain = self.at(size)
        checkpoint = Checkpoint(ORIGIN, size, edge.root, chain, NOON)
        both = (self.old,) * (size <= ROTATED) + (self.new,) * (size >= ROTATED)
        return Note(checkpoint.text, tuple(hand.sign(checkpoint.text) for hand in hands or both))


def event(index: int, chance: random.Random) -> bytes:
    return canonical(
        {
            "action": chance.choice(("chat.asked", "pane.written", "audit.key.rotated")),
            "id": f"{index:08x}-0000-7000-8000-{chance.randrange(2**48):012x}",
            "inputs": chance.randbytes(32).hex(),
            "outcome": "done",
            "resource": f"conversations/{chance.randrange(10**6)}-ü",
            "subject": "p_" + "".join(chance.choices("abcdefghij234567", k=24)),
            "tenant": TENANT,
            "time": "2031-02-03T12:00:00.000Z",
            "version": 1,
        }
    )


def closed(lines: Iterable[bytes]) -> list[bytes]:
    """With an end line that fits, as whoever tampers would write it: nobody signs it."""
    body = [line for line in lines if not line.startswith(b"end ")]
    count = sum(line.startswith(b"event ") for line in body)
    first = next((int(line.split(b" ")[1]) for line in body if line.startswith(b"start ")), 0)
    heads = sum(line.startswith(b"head ") for line in body)
    digest = sha256(b"".join(line + b"\n" for line in body)).digest()
    return [*body, End(count, first + count, heads, digest).line.encode()]


def packed(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def where(lines: Sequence[bytes], index: int) -> int:
    """The line of an event."""
    return next(at for at, line in enumerate(lines) if line.startswith(b"event %d " % index))


def chained(chain: bytes, text: bytes) -> bytes:
    return b64encode(link(chain, leaf_hash(text)))
