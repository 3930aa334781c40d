"""A verifier in another language, written from docs/audit-format.md alone, comes to the same verdicts as ours."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.signing import VerifierKey
from services.local.audit.verify import Known, verify
from tests.tampering import AFTER, TAMPERED, Lines, N, rewritten, signed_by, with_heads_of
from tests.trails import EVENTS, ROTATED, Hand, Trail, closed, packed

PROGRAM = Path(__file__).parent.parent / "stranger/verify.mjs"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(not NODE, reason="node is not here: the stranger's verifier is not tried")


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    return Trail.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def lines(trail: Trail) -> Lines:
    return trail.file()


def agreed(folder: Path, lines: Lines, *pins: VerifierKey, head: Note | None = None) -> bool:
    """Whether the file holds, which both say, with the same index when it does not."""
    words = [word for pin in pins for word in ("--key", pin.line)]
    if head:
        file = folder / "head"
        file.write_text(str(head))
        words += ["--head", str(file)]
    theirs = told(packed(lines), words)
    ours = verify(io.BytesIO(packed(lines)), Known(pins, head, Checkpoint.parse(head.text) if head else None)).finding
    assert (theirs["ok"], theirs.get("index")) == (ours is None, ours.index if ours else None), (theirs, ours)
    return ours is None


def told(file: bytes, words: list[str]) -> dict[str, Any]:
    done = subprocess.run([NODE or "", PROGRAM, *words], input=file, capture_output=True, timeout=30)
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if verdict["ok"] else 1)
    assert verdict.get("kind") != "fault", verdict
    return verdict


def test_good_files_hold_for_both(trail: Trail, lines: Lines, tmp_path: Path) -> None:
    assert agreed(tmp_path, lines)
    assert agreed(tmp_path, trail.file(first=77), trail.new.key, head=trail.head(N + 77))
    assert agreed(tmp_path, lines, trail.old.key, head=trail.head(N))


@pytest.mark.parametrize("what", list(TAMPERED)[::2])
def test_tampered_files_fail_for_both_at_the_same_index(lines: Lines, tmp_path: Path, what: str) -> None:
    assert not agreed(tmp_path, TAMPERED[what][0](lines))


def test_forgers_who_compute_and_sign_anew_convince_neither(trail: Trail, lines: Lines, tmp_path: Path) -> None:
    stranger = Hand.new(tmp_path)
    other = rewritten(trail, N, trail.texts[N].replace(b'"done"', b'"gone"'))
    assert not agreed(tmp_path, with_heads_of(other.file(), lines))
    assert not agreed(tmp_path, signed_by(trail, lines, AFTER, stranger))
    assert not agreed(tmp_path, signed_by(trail, lines, AFTER, trail.new))
    assert not agreed(tmp_path, signed_by(trail, lines, ROTATED, trail.new), trail.old.key)
    assert not agreed(tmp_path, lines, stranger.key)
    assert not agreed(tmp_path, lines, head=other.head(AFTER))
    assert not agreed(tmp_path, trail.file(end=AFTER), head=trail.head(ROTATED - 1))
    assert not agreed(tmp_path, rewritten(trail, EVENTS - 1, b'{"b":1,"a":2}').file())
    assert not agreed(tmp_path, closed([line.replace(b"12:00:00.000Z\\n", b"12:00:00.001Z\\n") for line in lines]))
