"""An audit file proves itself, and whatever was done to it is found and named."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard

from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.merkle import Edge, leaf_hash
from services.common.trail.signing import VerifierKey
from services.local.audit.finding import Finding, Kind
from services.local.audit.form import Key, Start, head_line
from services.local.audit.ring import Ring
from services.local.audit.verify import Known, Verdict, verify
from services.local.commands import audit as commands
from services.local.commands.audited import known_of
from services.local.fault import Fault
from tests.tampering import AFTER, BEFORE, TAMPERED, Lines, N, put, rewritten, signed_by, with_heads_of
from tests.trails import EVENTS, HEAD_EVERY, NOON, ORIGIN, ROTATED, Hand, Trail, chained, closed, event, packed, where

FORGED = event(N, random.Random(99))


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    return Trail.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def lines(trail: Trail) -> Lines:
    return trail.file()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Hand:
    return Hand.new(tmp_path_factory.mktemp("stranger"))


def judged(content: Lines | bytes, *pins: VerifierKey, head: Note | None = None) -> Verdict:
    raw = content if isinstance(content, bytes) else packed(content)
    return verify(io.BytesIO(raw), Known(pins, head, Checkpoint.parse(head.text) if head else None))


def found(content: Lines | bytes, *pins: VerifierKey, head: Note | None = None) -> Finding:
    finding = judged(content, *pins, head=head).finding
    assert finding, "nothing was found"
    assert finding.text.endswith("."), finding.text
    return finding


def named(finding: Finding) -> tuple[Kind, int | None, int | None]:
    return finding.kind, finding.index, finding.through


def test_a_whole_trail_holds(trail: Trail, lines: Lines) -> None:
    verdict = judged(lines)
    assert verdict.finding is None
    assert (verdict.tenant, verdict.origin, verdict.first, verdict.size) == ("acme", ORIGIN, 0, EVENTS)
    assert verdict.newest and verdict.newest.root == trail.at(EVENTS)[0].root
    assert verdict.trusted == [trail.old.key, trail.new.key]


@pytest.mark.parametrize("first", [1, BEFORE, 64, ROTATED, EVENTS - 1])
def test_a_trail_that_begins_later_holds_by_itself(trail: Trail, first: int) -> None:
    verdict = judged(trail.file(first))
    assert verdict.finding is None
    assert (verdict.first, verdict.size) == (first, EVENTS)


def test_compressed_or_not_in_one_frame_or_several_is_the_same(lines: Lines) -> None:
    compress = zstandard.ZstdCompressor(write_checksum=True).compress
    assert judged(compress(packed(lines))).finding is None
    assert judged(compress(packed(lines[:50])) + compress(packed(lines[50:]))).finding is None


def test_any_byte_that_changes_is_found_and_in_an_event_its_index_too(lines: Lines) -> None:
    chance = random.Random(5)
    whole = packed(lines)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for at, line in enumerate(lines):
        kind = line.split(b" ")[0]
        if kind == b"event" and at % 4:
            continue
        places = {0, len(line), *(chance.randrange(len(line)) for _ in range(3 if kind == b"event" else 9))}
        for place in places:
            raw = bytearray(whole)
            raw[starts[at] + place] ^= 1 << chance.randrange(8)
            finding = found(bytes(raw))
            if kind == b"event":
                assert finding.index == int(line.split(b" ")[1]), (line[:40], place, finding)


@pytest.mark.parametrize("closes", [False, True], ids=["as it is", "with a new end line"])
@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_done_to_a_file_is_named(lines: Lines, what: str, closes: bool) -> None:
    tamper, kind, index, through = TAMPERED[what]
    tampered = tamper(lines)
    ends_once = tampered[-1:] == lines[-1:] and lines[-1] not in tampered[:-1]
    if closes and kind is not Kind.CUT_TAIL and ends_once:
        tampered = closed(tampered)
    assert named(found(tampered)) == (kind, index, through)


@pytest.mark.parametrize("first", [1, 3])
def test_a_start_that_is_not_the_trail_s_leads_to_no_head(trail: Trail, first: int) -> None:
    edge, chain = trail.at(first)
    forged = Start(chain, Edge(first, tuple(bytes(32) for _ in edge.hashes)))
    file = trail.file(first)
    at = next(at for at, line in enumerate(file) if line.startswith(b"start "))
    finding = found(closed(put(file, at, forged.line.encode())))
    assert named(finding) == (Kind.ALTERED, first, HEAD_EVERY - 1)
    head = head_line(str(trail.head(first))).encode()
    alone = found(closed([*file[:at], forged.line.encode(), head]))
    assert named(alone) == (Kind.ALTERED, first, None)
    assert judged(closed([*file[: at + 1], head])).finding is None


def test_a_chain_computed_anew_does_not_lead_to_the_next_head(trail: Trail, lines: Lines) -> None:
    forged = with_heads_of(rewritten(trail, N, FORGED).file(), lines)
    assert named(found(forged)) == (Kind.ALTERED, BEFORE, AFTER - 1)


def test_a_head_signed_by_nobody_vouches_for_nothing(trail: Trail, lines: Lines) -> None:
    """The forger changed root and chain in the heads too, and left the signatures."""
    other = rewritten(trail, N, FORGED)
    forged = []
    for line in other.file():
        if line.startswith(b"head "):
            note = Note.parse(json.loads(line[5:]))
            size = Checkpoint.parse(note.text).size
            line = head_line(str(Note(note.text, trail.head(size).signatures))).encode()
        forged.append(line)
    finding = found(closed(forged))
    assert named(finding) == (Kind.WRONG_KEY, BEFORE, AFTER - 1)


def test_a_head_signed_with_another_key_is_found(trail: Trail, lines: Lines, stranger: Hand) -> None:
    finding = found(signed_by(trail, lines, AFTER, stranger))
    assert named(finding) == (Kind.WRONG_KEY, BEFORE, AFTER - 1)
    assert "no key of the file" in finding.text


@pytest.mark.parametrize(("size", "whose"), [(AFTER, "new"), (EVENTS, "old")])
def test_a_key_signs_within_its_range_only(trail: Trail, lines: Lines, size: int, whose: str) -> None:
    finding = found(signed_by(trail, lines, size, getattr(trail, whose)))
    assert finding.kind is Kind.WRONG_KEY
    assert "in use from size" in finding.text


def test_signatures_of_others_beside_ours_say_nothing(trail: Trail, lines: Lines, stranger: Hand) -> None:
    assert judged(signed_by(trail, lines, AFTER, stranger, trail.old)).finding is None


def test_two_signed_heads_that_contradict_each_other_are_a_fork(trail: Trail, lines: Lines) -> None:
    other = rewritten(trail, N, FORGED)
    later = closed(put(lines, where(lines, AFTER - 1) + 1, head_line(str(other.head(AFTER))).encode()))
    assert named(found(later)) == (Kind.FORKED, BEFORE, AFTER - 1)
    at = where(lines, AFTER - 1) + 1
    same = closed(put(lines, at, lines[at], head_line(str(other.head(AFTER))).encode()))
    assert named(found(same)) == (Kind.FORKED, AFTER - 1, AFTER - 1)


def test_a_chain_that_differs_from_the_root_s_trail_is_found(trail: Trail, lines: Lines) -> None:
    """The root is right and signed; the chain in the head is not."""
    head = Checkpoint(ORIGIN, EVENTS, trail.at(EVENTS)[0].root, bytes(64), NOON)
    note = Note(head.text, (trail.new.sign(head.text),))
    forged = closed(put(lines, len(lines) - 2, head_line(str(note)).encode()))
    assert found(forged).kind is Kind.ALTERED


def test_a_trail_of_another_key_holds_only_for_who_pins_none(trail: Trail, stranger: Hand) -> None:
    forged = Trail(stranger, stranger, trail.texts[: ROTATED - 1]).file()
    verdict = judged(forged)
    assert verdict.finding is None
    assert verdict.trusted == [stranger.key]
    finding = found(forged, trail.old.key)
    assert named(finding) == (Kind.WRONG_KEY, 0, ROTATED - 2)
    assert "another trail" in finding.text


def test_a_key_with_the_id_of_the_pinned_one_is_another_key(trail: Trail, stranger: Hand) -> None:
    """Four bytes of id can be found by trying."""
    ring = Ring(ORIGIN, {trail.old.key.id: Key(stranger.key, 1)}, {trail.old.key.id: EVENTS})
    assert ring.trusted([trail.old.key]) == []
    assert ring.vouched([trail.old.key]) == 0


def test_a_pinned_key_vouches_across_the_rotation(trail: Trail, lines: Lines) -> None:
    for pin in (trail.old.key, trail.new.key):
        verdict = judged(lines, pin)
        assert verdict.finding is None
        assert verdict.trusted == [trail.old.key, trail.new.key]


def test_a_rotation_that_the_old_key_did_not_sign_is_not_vouched_for(trail: Trail, lines: Lines) -> None:
    """Whoever has the database, and not the key, could go on like this."""
    alone = signed_by(trail, lines, ROTATED, trail.new)
    assert judged(alone).finding is None
    assert named(found(alone, trail.old.key)) == (Kind.WRONG_KEY, 119, EVENTS - 1)
    assert judged(alone, trail.old.key, trail.new.key).finding is None
    assert judged(alone, trail.new.key).finding is None


def test_a_tail_cut_by_who_writes_a_new_end_shows_against_a_newer_head(trail: Trail) -> None:
    cut = trail.file(end=AFTER)
    assert judged(cut).finding is None
    finding = found(cut, head=trail.head(ROTATED - 1))
    assert named(finding) == (Kind.CUT_TAIL, AFTER, ROTATED - 2)


@pytest.mark.parametrize("size", [1, N, AFTER, ROTATED, EVENTS])
def test_a_head_from_elsewhere_must_lie_on_the_trail(trail: Trail, lines: Lines, size: int) -> None:
    assert judged(lines, head=trail.head(size)).finding is None
    other = rewritten(trail, 0, FORGED)
    assert found(lines, head=other.head(size)).kind is Kind.FORKED
    other_chain = Checkpoint(ORIGIN, size, trail.at(size)[0].root, bytes(64), NOON).text
    assert found(lines, head=Note(other_chain, (trail.new.sign(other_chain),))).kind is Kind.FORKED


def test_a_head_from_elsewhere_must_be_signed_with_a_key_that_is_trusted(
    trail: Trail, lines: Lines, stranger: Hand
) -> None:
    assert found(lines, head=trail.head(AFTER, stranger)).kind is Kind.WRONG_KEY
    assert found(trail.file(end=AFTER), head=trail.head(EVENTS)).kind is Kind.WRONG_KEY
    given = judged(trail.file(end=AFTER), trail.old.key, trail.new.key, head=trail.head(EVENTS)).finding
    assert given and given.kind is Kind.CUT_TAIL


def test_a_head_older_than_a_file_s_beginning_is_not_passed_over(trail: Trail) -> None:
    file = trail.file(first=64)
    assert judged(file, head=trail.head(64)).finding is None
    assert named(found(file, head=trail.head(AFTER))) == (Kind.MISSING, AFTER, 63)


@pytest.mark.parametrize(
    ("text", "why"),
    [(b'{"b":1,"a":2}', "RFC 8785"), (b'{"tenant":"globex"}', "acme"), (b"{", "JSON"), (b'["x"]', "acme")],
)
@pytest.mark.parametrize(("first", "index"), [(0, 0), (5, 5), (0, EVENTS - 1)])
def test_what_was_sealed_without_being_canonical_is_told(
    trail: Trail, first: int, index: int, text: bytes, why: str
) -> None:
    finding = found(rewritten(trail, index, text).file(first))
    assert (finding.kind, finding.index) == (Kind.MALFORMED, index)
    assert why in finding.text


def test_each_thousandth_event_is_read_as_json_too(tmp_path: Path) -> None:
    long = Trail.make(tmp_path, count=1100)
    assert judged(long.file()).finding is None
    assert named(found(rewritten(long, 1000, b"{}").file())) == (Kind.MALFORMED, 1000, 1000)
    assert judged(rewritten(long, 999, b"{}").file()).finding is None


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_compressed_file_that_was_cut_or_damaged_is_found(lines: Lines, place: float) -> None:
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(packed(lines))
    at = int(place * (len(whole) - 1))
    assert found(whole[: min(at, len(whole) - 8)]).kind in (Kind.CUT_TAIL, Kind.MALFORMED)
    damaged = bytearray(whole)
    damaged[at] ^= 0x10
    found(bytes(damaged))
    found(whole + b"more")


@pytest.mark.parametrize("garbage", [b"\n", b"\x00" * 300, b"\xff\xfe\n" * 9, b"x" * 9_000_000, b"%PDF-1.7\n", b"[]\n"])
def test_garbage_is_no_audit_file(garbage: bytes) -> None:
    finding = found(garbage)
    assert (finding.kind, finding.index) == (Kind.MALFORMED, None)
    assert "codec" not in finding.text


def test_a_head_that_is_no_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(b"\xff\xfe\n" * 9)
    with pytest.raises(Fault, match=r"holds no signed head\. There are bytes that are no text \(UTF-8\)\."):
        known_of(tmp_path / "head", ())


@pytest.mark.parametrize("tenant", ["a\udcff", "", "../acme", "Acme", "a b", "a" * 41])
def test_a_name_that_cannot_be_a_tenant_is_refused_before_anything_is_done(tmp_path: Path, tenant: str) -> None:
    ways = {
        commands.export: (tmp_path, tenant, tmp_path / "x.zst", 0),
        commands.heads: (tmp_path, tenant),
        commands.key: (tmp_path, tenant),
        commands.forget: (tmp_path, tenant, "ada"),
        commands.rotate: (tmp_path, tenant),
    }
    for command, values in ways.items():
        with pytest.raises(Fault, match="cannot be a tenant: use 2 to 40 of a-z"):
            cast("Any", command)(*values)


def test_a_person_whose_name_is_no_text_is_nobody(tmp_path: Path) -> None:
    for command in (
        lambda: commands.forgetting("acme", "a\udcff"),
        lambda: commands.forget(tmp_path, "acme", "a\udcff"),
    ):
        with pytest.raises(Fault, match="acme knows nobody called"):
            cast("Any", command)()


def test_a_line_without_end_is_not_read_into_memory() -> None:
    assert "longer than" in found(b"x" * 9_000_000 + b"\n").text


def test_another_file_is_told_from_an_audit_file() -> None:
    assert "begins with the word soma-audit" in found(b"%PDF 1 acme soma.local/audit/acme\n").text


def test_a_later_format_asks_for_a_later_release(lines: Lines) -> None:
    assert "newer release" in found(put(lines, 0, lines[0].replace(b"audit 1 ", b"audit 2 "))).text


def test_a_key_that_names_itself_otherwise_is_refused(trail: Trail, lines: Lines, tmp_path: Path) -> None:
    other = Hand.new(tmp_path, "soma.local/audit/globex")
    assert found(put(lines, 1, Key(other.key, 1, ROTATED).line.encode())).kind is Kind.MALFORMED
    twice = Key(trail.old.key, ROTATED).line.encode()
    assert found(put(lines, 2, twice)).index is None
    backwards = Key(trail.old.key, ROTATED, 1).line.encode()
    assert named(found(put(lines, 1, backwards))) == (Kind.MALFORMED, None, None)
    overlapping = Key(trail.old.key, 1, ROTATED + 1).line.encode()
    assert found(put(lines, 1, overlapping)).kind is Kind.MALFORMED


def test_a_head_of_another_trail_is_refused_though_the_key_signed_it(trail: Trail, lines: Lines) -> None:
    edge, chain = trail.at(AFTER)
    head = Checkpoint("soma.local/audit/globex", AFTER, edge.root, chain, NOON)
    note = Note(head.text, (trail.old.sign(head.text),))
    forged = closed(put(lines, where(lines, AFTER - 1) + 1, head_line(str(note)).encode()))
    assert named(found(forged)) == (Kind.MALFORMED, AFTER, AFTER)


@pytest.mark.parametrize(
    "other", [lambda head: head.replace(b"soma", b"\\u0073oma", 1), lambda _: b"head 5", lambda _: b"head"]
)
def test_a_head_is_written_one_way(lines: Lines, other: Callable[[bytes], bytes]) -> None:
    at = where(lines, AFTER - 1) + 1
    assert named(found(closed(put(lines, at, other(lines[at]))))) == (Kind.MALFORMED, AFTER, AFTER)


def test_the_chain_of_a_line_is_that_of_its_place(trail: Trail, lines: Lines) -> None:
    before = trail.at(N)[1]
    assert lines[where(lines, N)].split(b" ")[2] == chained(before, trail.texts[N])
    assert trail.at(1)[0].root == leaf_hash(trail.texts[0])
