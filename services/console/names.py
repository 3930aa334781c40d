"""Resource names of the room. A name that cannot be one is simply not found. Pure."""

from __future__ import annotations

import re

from services.common.errors import NotFound

EVENT = re.compile(r"audit/events/(0|[1-9][0-9]{0,17})", re.ASCII)


def event_name(index: int) -> str:
    return f"audit/events/{index}"


def head_name(size: int) -> str:
    return f"audit/heads/{size}"


def event_index(name: str) -> int:
    """Raises NotFound EVENT_UNKNOWN."""
    found = EVENT.fullmatch(name)
    if not found:
        raise no_event(name)
    return int(found[1])


def no_event(name: str) -> NotFound:
    return NotFound("EVENT_UNKNOWN", "There is no such event in the audit trail of your tenant.", name=name[:200])


def no_head(size: int, *, up_to: int = 0) -> NotFound:
    """Size 0: there is none at all. `up_to`: there is one, and it is not among those."""
    if not size:
        return NotFound("TREE_SIZE_UNKNOWN", "No tree head is signed yet: nothing was sealed. Try again in a moment.")
    among = f" up to {up_to}" if up_to else ""
    message = f"No tree head{among} was signed at the size {size}. Take sizes of the list of heads."
    return NotFound("TREE_SIZE_UNKNOWN", message, size=str(size))


def not_under(name: str, size: int) -> NotFound:
    message = f"The tree head of size {size} does not hold the event. Take a larger one."
    return NotFound("TREE_SIZE_UNKNOWN", message, name=name[:200], size=str(size))
