"""How much a canvas holds. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import Precondition

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    panes: int = 200
    """Of one conversation."""
    text_bytes: int = 16 * MIB
    """Of all panes of one conversation, each in its newest version."""
    versions: int = 100
    """Of one pane, with the newest."""
    version_bytes: int = 4 * MIB
    """Of one pane's versions, with the newest, which is kept in any case."""
    gone: int = 1000
    """Deleted panes of one conversation of which a watch can still say so."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a canvas holds now."""

    panes: int
    text_bytes: int
    largest: str
    """The name of its largest pane. Empty when there is none."""


def check_pane(held: Held, size_bytes: int, limits: Limits) -> None:
    """Raise Precondition CANVAS_FULL unless one more pane of that size fits."""
    if held.panes >= limits.panes:
        message = f"This conversation has {held.panes} panes; more do not fit. Delete one that is no longer needed."
        raise Precondition("CANVAS_FULL", message, panes=str(held.panes))
    check_text(held, 0, size_bytes, limits)


def check_text(held: Held, old_bytes: int, new_bytes: int, limits: Limits) -> None:
    """Raise Precondition CANVAS_FULL when a text grows beyond what is left. To shorten one is always possible."""
    after = held.text_bytes - old_bytes + new_bytes
    if new_bytes > old_bytes and after > limits.text_bytes:
        message = f"The panes of this conversation would hold {after:,} bytes; {limits.text_bytes:,} is the most. "
        message += "Delete or shorten one: the metadata name the largest."
        raise Precondition("CANVAS_FULL", message, bytes=str(held.text_bytes), largest=held.largest)
