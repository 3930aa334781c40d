"""What somebody could do to an audit file, and what a verifier must say then."""

from __future__ import annotations

from collections.abc import Callable

from services.local.audit.finding import Kind
from services.local.audit.form import head_line
from tests.trails import EVENTS, HEAD_EVERY, Hand, Trail, closed, where

BEFORE, AFTER = 2 * HEAD_EVERY, 3 * HEAD_EVERY
"""Two heads that follow each other; events between them are closed by the second."""
N = BEFORE + 5
Lines = list[bytes]


def put(lines: Lines, at: int, *others: bytes) -> Lines:
    return [*lines[:at], *others, *lines[at + 1 :]]


def renumbered(lines: Lines) -> Lines:
    """Events numbered anew, as who took one out would."""
    index, out = 0, []
    for line in lines:
        if line.startswith(b"event "):
            line = b"event %d %s" % (index, line.split(b" ", 2)[2])
            index += 1
        out.append(line)
    return out


def exchanged(lines: Lines, one: int, other: int) -> Lines:
    swapped = list(lines)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped


def texts_exchanged(lines: Lines, one: int, other: int) -> Lines:
    """Index and chain stay; only what was sealed changes places."""
    (*left, text), (*right, other_text) = lines[one].split(b" ", 3), lines[other].split(b" ", 3)
    return put(put(lines, one, b" ".join([*left, other_text])), other, b" ".join([*right, text]))


TAMPERED: dict[str, tuple[Callable[[Lines], Lines], Kind, int | None, int | None]] = {
    "an event changed": (
        lambda f: put(f, where(f, N), f[where(f, N)].replace(b'"done"', b'"gone"')), Kind.ALTERED, N, N),
    "an event's text empty": (
        lambda f: put(f, where(f, N), b" ".join(f[where(f, N)].split(b" ")[:3])), Kind.ALTERED, N, N),
    "an event's index changed": (
        lambda f: put(f, where(f, N), f[where(f, N)].replace(b"event %d" % N, b"event %d" % (N + 30))),
        Kind.ALTERED, N, N),
    "an event's index no number": (
        lambda f: put(f, where(f, N), f[where(f, N)].replace(b"event %d" % N, b"event x")), Kind.ALTERED, N, N),
    "an event replaced by the one before": (
        lambda f: put(f, where(f, N), f[where(f, N - 1)]), Kind.REORDERED, N, N),
    "an event dropped": (lambda f: put(f, where(f, N)), Kind.MISSING, N, N),
    "three events dropped": (
        lambda f: [*f[: where(f, N)], *f[where(f, N + 3) :]], Kind.MISSING, N, N + 2),
    "the first event dropped": (lambda f: put(f, where(f, 0)), Kind.MISSING, 0, 0),
    "the event before a head dropped": (lambda f: put(f, where(f, AFTER - 1)), Kind.MISSING, AFTER - 1, AFTER - 1),
    "an event dropped and the rest renumbered": (lambda f: renumbered(put(f, where(f, N))), Kind.ALTERED, N, N),
    "an event twice": (
        lambda f: put(f, where(f, N), f[where(f, N)], f[where(f, N)]), Kind.REORDERED, N + 1, N + 1),
    "an event twice and the rest renumbered": (
        lambda f: renumbered(put(f, where(f, N), f[where(f, N)], f[where(f, N)])), Kind.REORDERED, N + 1, N + 1),
    "two events exchanged": (lambda f: exchanged(f, where(f, N), where(f, N + 1)), Kind.REORDERED, N, N),
    "two events exchanged and renumbered": (
        lambda f: renumbered(exchanged(f, where(f, N), where(f, N + 4))), Kind.REORDERED, N, N),
    "the texts of two exchanged": (
        lambda f: texts_exchanged(f, where(f, N), where(f, N + 4)), Kind.REORDERED, N, N),
    "a head and the event before it exchanged": (
        lambda f: exchanged(f, where(f, AFTER - 1), where(f, AFTER - 1) + 1), Kind.REORDERED, AFTER - 1, AFTER - 1),
    "a head and the event after it exchanged": (
        lambda f: exchanged(f, where(f, AFTER), where(f, AFTER) - 1), Kind.REORDERED, AFTER + 1, AFTER + 1),
    "cut behind an event": (lambda f: f[: where(f, N) + 1], Kind.CUT_TAIL, N + 1, None),
    "cut behind a head": (lambda f: f[: where(f, AFTER)], Kind.CUT_TAIL, AFTER, None),
    "the last head dropped": (lambda f: put(f, len(f) - 2), Kind.CUT_TAIL, 187, EVENTS - 1),
    "events of the tail dropped": (
        lambda f: [*f[: where(f, AFTER)], f[-1]], Kind.CUT_TAIL, AFTER, EVENTS - 1),
    "something after the end": (lambda f: [*f, b"event"], Kind.MALFORMED, EVENTS, EVENTS),
    "a second end": (lambda f: [*f, f[-1]], Kind.MALFORMED, EVENTS, EVENTS),
    "a key among the events": (
        lambda f: put(put(f, where(f, N), f[2], f[where(f, N)]), 2), Kind.MALFORMED, N, N),
    "an event's index no number and its text changed": (
        lambda f: put(f, where(f, N), f[where(f, N)].replace(b"%d " % N, b"x ", 1).replace(b'"done"', b'"gone"')),
        Kind.ALTERED, N, N),
    "an empty line": (lambda f: put(f, where(f, N), b"", f[where(f, N)]), Kind.MALFORMED, N, N),
    "another version": (lambda f: put(f, 0, f[0].replace(b"audit 1 ", b"audit 2 ")), Kind.MALFORMED, None, None),
    "another tenant": (lambda f: put(f, 0, f[0].replace(b" acme ", b" globex ")), Kind.MALFORMED, None, None),
    "no header": (lambda f: f[1:], Kind.MALFORMED, None, None),
    "no keys": (lambda f: [f[0], *f[3:]], Kind.MALFORMED, None, None),
    "no start": (lambda f: put(f, 3), Kind.MALFORMED, None, None),
    "a start with another chain": (
        lambda f: put(f, 3, f[3].replace(b"0 AAAA", b"0 AAAB")), Kind.MALFORMED, None, None),
    "a second start": (lambda f: put(f, where(f, N), f[3], f[where(f, N)]), Kind.MALFORMED, N, N),
    "a key listed twice": (lambda f: put(f, 1, f[1], f[1]), Kind.MALFORMED, None, None),
    "only the header": (lambda f: f[:1], Kind.CUT_TAIL, None, None),
    "nothing": (lambda f: [], Kind.CUT_TAIL, None, None),
}  # fmt: skip


def rewritten(trail: Trail, index: int, text: bytes) -> Trail:
    """The same keys over another history."""
    return Trail(trail.old, trail.new, [*trail.texts[:index], text, *trail.texts[index + 1 :]])


def with_heads_of(lines: Lines, heads: Lines) -> Lines:
    """The events of one file under the heads of another."""
    signed = iter([line for line in heads if line.startswith(b"head ")])
    return closed([next(signed) if line.startswith(b"head ") else line for line in lines])


def signed_by(trail: Trail, lines: Lines, size: int, *hands: Hand) -> Lines:
    at = where(lines, size - 1) + 1
    return closed(put(lines, at, head_line(str(trail.head(size, *hands))).encode()))
