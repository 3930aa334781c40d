"""Resource names of the room. A name that cannot be one is simply not found. Pure."""

from __future__ import annotations

import re
from uuid import UUID

from services.common.errors import NotFound
from services.common.names import UUID_TEXT, no_conversation

LAYOUT = re.compile(f"conversations/{UUID_TEXT}/layout")
PANE = re.compile(f"conversations/{UUID_TEXT}/panes/{UUID_TEXT}")
VERSION = re.compile(f"conversations/{UUID_TEXT}/panes/{UUID_TEXT}/versions/([1-9][0-9]{{0,8}})")

PaneIds = tuple[UUID, UUID]
"""The conversation's and the pane's."""


def layout_name(conversation: UUID) -> str:
    return f"conversations/{conversation}/layout"


def pane_name(ids: PaneIds) -> str:
    return f"conversations/{ids[0]}/panes/{ids[1]}"


def version_name(ids: PaneIds, version: int) -> str:
    return f"{pane_name(ids)}/versions/{version}"


def layout_of(name: str) -> UUID:
    """The conversation that the layout is of. Raises NotFound CONVERSATION_UNKNOWN."""
    found = LAYOUT.fullmatch(name)
    if not found:
        raise no_conversation(name)
    return UUID(found[1])


def pane_ids(name: str) -> PaneIds:
    """Raises NotFound PANE_UNKNOWN."""
    found = PANE.fullmatch(name)
    if not found:
        raise no_pane(name)
    return UUID(found[1]), UUID(found[2])


def version_ids(name: str) -> tuple[PaneIds, int]:
    """The pane and the number. Raises NotFound VERSION_UNKNOWN."""
    found = VERSION.fullmatch(name)
    if not found:
        raise no_version(name)
    return (UUID(found[1]), UUID(found[2])), int(found[3])


def pane_of(conversation: UUID, name: str) -> UUID | None:
    """The pane of that conversation which the name can be of."""
    found = PANE.fullmatch(name)
    return UUID(found[2]) if found and UUID(found[1]) == conversation else None


def no_pane(name: str) -> NotFound:
    return NotFound("PANE_UNKNOWN", "There is no such pane among yours.", name=name[:200])


def no_version(name: str) -> NotFound:
    message = "There is no such version of a pane among yours. The oldest are not kept for ever."
    return NotFound("VERSION_UNKNOWN", message, name=name[:200])
