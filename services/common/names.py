"""Resource names that more than one room reads and writes. A name that cannot be one is simply not found. Pure."""

from __future__ import annotations

import re
from uuid import UUID

from services.common.errors import NotFound

UUID_TEXT = r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
CONVERSATION = re.compile(f"conversations/{UUID_TEXT}")


def conversation_name(conversation: UUID) -> str:
    return f"conversations/{conversation}"


def conversation_id(name: str) -> UUID:
    """Raises NotFound CONVERSATION_UNKNOWN."""
    found = CONVERSATION.fullmatch(name)
    if not found:
        raise no_conversation(name)
    return UUID(found[1])


def no_conversation(name: str) -> NotFound:
    return NotFound("CONVERSATION_UNKNOWN", "There is no such conversation among yours.", name=name[:200])
