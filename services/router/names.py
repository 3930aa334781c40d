"""Resource names of the room. A name that cannot be one is simply not found. Pure."""

from __future__ import annotations

import re
from uuid import UUID

from services.common.errors import NotFound
from services.common.names import UUID_TEXT

DECISION = re.compile(f"decisions/{UUID_TEXT}")


def decision_name(decision: UUID | str) -> str:
    return f"decisions/{decision}"


def decision_id(name: str) -> UUID:
    """Raises NotFound DECISION_UNKNOWN."""
    found = DECISION.fullmatch(name)
    if not found:
        raise no_decision(name)
    return UUID(found[1])


def no_decision(name: str) -> NotFound:
    return NotFound("DECISION_UNKNOWN", "There is no such decision among yours.", name=name[:200])
