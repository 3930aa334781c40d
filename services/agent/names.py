"""Resource names of the room. A name that cannot be one is simply not found."""

from __future__ import annotations

import re
from uuid import UUID

from services.common.errors import NotFound
from services.common.names import UUID_TEXT

TURN = re.compile(f"conversations/{UUID_TEXT}/turns/{UUID_TEXT}")


def turn_name(conversation: UUID, turn: UUID) -> str:
    return f"conversations/{conversation}/turns/{turn}"


def pane_name(conversation: UUID, pane: UUID) -> str:
    return f"conversations/{conversation}/panes/{pane}"


def turn_ids(name: str) -> tuple[UUID, UUID]:
    """The conversation's and the turn's id. Raises NotFound TURN_UNKNOWN."""
    found = TURN.fullmatch(name)
    if not found:
        raise no_turn(name)
    return UUID(found[1]), UUID(found[2])


def no_turn(name: str) -> NotFound:
    return NotFound("TURN_UNKNOWN", "There is no such turn among yours.", name=name[:200])
