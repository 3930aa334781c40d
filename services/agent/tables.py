"""What a pipe table is, as GFM has it. Pure."""

from __future__ import annotations

import re

BAR = re.compile(r"(?<!\\)\|")
DASHES = re.compile(r":?-+:?")
ENDS = re.compile(
    r"\s*$| {4}|\t| {0,3}(?:>|#{1,6}(?:\s|$)|[-*+]\s|\d{1,9}[.)]\s|```|~~~|<[A-Za-z/!?]|(?:[-*_][ \t]*+){3,}\s*$)"
)
"""A line that is no row: an empty one, or one that begins another block."""


def is_head(above: str, line: str) -> bool:
    """Whether the two lines are the head of a table: a row, and as many dashes as it has cells."""
    dashes = cells(line) if "|" in line else []
    return bool(dashes) and all(DASHES.fullmatch(cell) for cell in dashes) and len(cells(above)) == len(dashes)


def cells(row: str) -> list[str]:
    """The cells of a row. Bars at its two ends do not count."""
    found = [cell.strip() for cell in BAR.split(row.strip())]
    if found and not found[0]:
        found = found[1:]
    if found and not found[-1]:
        found = found[:-1]
    return found
