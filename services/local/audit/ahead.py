"""Why an event is not where it should be: what comes later in the file may tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from services.local.audit.finding import Finding, Gap, Kind, Misfit, Wrong
from services.local.audit.form import EVENT
from services.local.audit.walk import chained

FARTHEST = 10_000
"""So many lines are tried for a text that was moved."""


def explain(wrong: Wrong, ahead: Iterator[bytes]) -> Finding:
    """The finding, or a better one. `ahead` are the lines from the wrong one on."""
    if isinstance(wrong, Gap) and stands_later(wrong.index, ahead):
        text = f"Event {wrong.index} stands later than it should: lines were moved. Get the trail anew."
        return Finding.at(Kind.REORDERED, wrong.index, text)
    if isinstance(wrong, Misfit) and (moved := moved_to(wrong, ahead)):
        text = (
            f"What was sealed as event {wrong.index} stands as event {moved}: texts were exchanged. Get the trail anew."
        )
        return Finding.at(Kind.REORDERED, wrong.index, text)
    return wrong.finding


def stands_later(index: int, ahead: Iterable[bytes]) -> bool:
    line = f"{EVENT} {index} ".encode()
    return any(each.startswith(line) for each in ahead)


def moved_to(wrong: Misfit, ahead: Iterator[bytes]) -> str:
    """The index at which the text stands that continues the chain as it should; empty when it is nowhere near."""
    for line in islice(ahead, 1, FARTHEST):
        word, index, stated, canonical = [*line.split(b" ", 3), b"", b"", b""][:4]
        if word == EVENT.encode() and chained(wrong.chain, canonical) in (wrong.stated, stated):
            return index.decode(errors="replace")
    return ""
