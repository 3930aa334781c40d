"""What it takes to verify an audit file on one core: all of it, and beside that each event by its own proof."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.common import zstd
from services.common.trail.checkpoint import Checkpoint, Note, origin
from services.common.trail.merkle import UNCHAINED, Edge, inclusion_path, leaf_hash, links, verify_inclusion
from services.common.trail.signing import FileSigningKeys, VerifierKey, signer_of
from services.local.audit.export import STEP
from services.local.audit.form import Header, Key, Start
from services.local.audit.verify import Known, verify
from services.local.audit.writer import Writer
from tests.bench.figure import Figure
from tests.trails import event

EVENTS, ROUNDS = 200_000, 3
ALONE = 2000
"""Events of a round that are verified one by one."""
NOON = datetime(2031, 2, 3, 12, tzinfo=UTC)
TENANT = "acme"


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody has who was given one event, and trusts a key."""

    index: int
    canonical: bytes
    path: Sequence[bytes]
    note: str


@dataclass(frozen=True, slots=True)
class Trail:
    file: Path
    key: VerifierKey
    size: int
    proofs: Sequence[Proof]
    """Of events all over it, against the newest head."""


def measure(scale: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="soma-bench-") as folder:
        trail = made(Path(folder), max(10_000, round(EVENTS * scale)))
        bytes_each = trail.file.stat().st_size / trail.size
        rounds = [(whole_rate(trail), alone_rate(trail), bare_rate(trail)) for _ in range(ROUNDS)]
    whole, alone, bare = (max(column) for column in zip(*rounds, strict=True))
    note = f"{trail.size:,} events, {bytes_each:,.0f} bytes each in the file; {ROUNDS} rounds"
    return [
        Figure("verify a file, a core", whole, "/s", 80_000, note=note),
        Figure("a file / each event by its proof", ratio(rounds, 1), "", 5, note="with the head's signature each time"),
        Figure("a file / each event by its path alone", ratio(rounds, 2), "", note="the head's signature checked once"),
        Figure("each event by its proof, a core", alone, "/s", note=f"{len(trail.proofs[0].path)} hashes each"),
        Figure("each event by its path alone, a core", bare, "/s"),
    ]


def ratio(rounds: Sequence[tuple[float, ...]], other: int) -> float:
    return statistics.median(each[0] / each[other] for each in rounds)


def whole_rate(trail: Trail) -> float:
    """As `soma audit verify` does it."""
    began = time.process_time()
    with trail.file.open("rb") as file:
        verdict = verify(file, Known((trail.key,)))
    spent = time.process_time() - began
    assert verdict.finding is None, verdict.finding
    assert verdict.size == trail.size
    return trail.size / spent


def alone_rate(trail: Trail) -> float:
    """Each event on its own: its hash, its way to the head, and who signed that."""
    began = time.process_time()
    for proof in trail.proofs:
        note = Note.parse(proof.note)
        head = Checkpoint.parse(note.text)
        assert signer_of(note, (trail.key,)), "the head is not signed"
        assert leads(proof, head), f"event {proof.index} is not in the tree"
    return len(trail.proofs) / (time.process_time() - began)


def bare_rate(trail: Trail) -> float:
    """Without a look at the signature."""
    began = time.process_time()
    head = Checkpoint.parse(Note.parse(trail.proofs[0].note).text)
    assert all(leads(proof, head) for proof in trail.proofs)
    return len(trail.proofs) / (time.process_time() - began)


def leads(proof: Proof, head: Checkpoint) -> bool:
    return verify_inclusion(proof.index, head.size, leaf_hash(proof.canonical), proof.path, head.root)


def made(folder: Path, events: int) -> Trail:
    """A trail with a head as often as an export has one."""
    keys = FileSigningKeys(folder / "keys")
    key = asyncio.run(keys.make(origin(TENANT)))
    dice = random.Random(events)
    texts = [event(index, dice) for index in range(events)]
    leaves = [leaf_hash(text) for text in texts]
    file = folder / "acme.soma-audit"
    newest = asyncio.run(write(file, keys, key, texts, leaves))
    return Trail(file, key, events, list(proofs(texts, leaves, newest, dice)))


async def write(
    file: Path, keys: FileSigningKeys, key: VerifierKey, texts: Sequence[bytes], leaves: Sequence[bytes]
) -> str:
    """Returns the newest head."""
    signer, edge, chains, note = await keys.signer(key), Edge(), links(UNCHAINED, leaves), ""
    with file.open("wb") as raw, zstd.writing(raw) as packed:
        writer = Writer(packed)
        writer.begin(Header(TENANT, key.name), [Key(key, 1)], Start(UNCHAINED, edge))
        for low in range(0, len(texts), STEP):
            high = min(low + STEP, len(texts))
            for index in range(low, high):
                writer.event(index, chains[index], texts[index])
            edge = edge.extend(leaves[low:high])
            text = Checkpoint(key.name, high, edge.root, chains[high - 1], NOON).text
            note = str(Note(text, (await signer.sign(text),)))
            writer.head(note)
        writer.end()
    return note


def proofs(texts: Sequence[bytes], leaves: Sequence[bytes], note: str, dice: random.Random) -> Iterator[Proof]:
    """Of events anywhere, as the console gives them."""
    rows = {grown.level: grown.hashes for grown in Edge().grow(leaves)[1]}
    for index in dice.sample(range(len(texts)), min(ALONE, len(texts))):
        path = inclusion_path(index, len(texts), lambda level, at: rows[level][at])
        yield Proof(index, texts[index], path, note)
