"""Resource names of the room. A name that cannot be one is simply not found."""

from __future__ import annotations

import re
from uuid import UUID

from services.common.errors import NotFound

UUID_TEXT = r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
CONVERSATION = re.compile(f"conversations/{UUID_TEXT}")
TURN = re.compile(f"conversations/{UUID_TEXT}/turns/{UUID_TEXT}")


def conversation_name(conversation: UUID) -> str:
    return f"conversations/{conversation}"


def turn_name(conversation: UUID, turn: UUID) -> str:
    return f"conversations/{conversation}/turns/{turn}"


def pane_name(conversation: UUID, pane: UUID) -> str:
    return f"conversations/{conversation}/panes/{pane}"


def conversation_id(name: str) -> UUID:
    """Raises NotFound CONVERSATION_UNKNOWN."""
    found = CONVERSATION.fullmatch(name)
    if not found:
        raise no_conversation(name)
    return UUID(found[1])


def turn_ids(name: str) -> tuple[UUID, UUID]:
    """The conversation's and the turn's id. Raises NotFound TURN_UNKNOWN."""
    found = TURN.fullmatch(name)
    if not found:
        raise no_turn(name)
    return UUID(found[1]), UUID(found[2])


def no_conversation(name: str) -> NotFound:
    return NotFound("CONVERSATION_UNKNOWN", "There is no such conversation among yours.", name=name[:200])


def no_turn(name: str) -> NotFound:
    return NotFound("TURN_UNKNOWN", "There is no such turn among yours.", name=name[:200])
