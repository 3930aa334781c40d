"""Whether an event's bytes are what they should be: canonical JSON of the tenant."""

from __future__ import annotations

import json

from services.common.schemas import is_canonical


def fault_of(tenant: str, event: bytes) -> str:
    """What is wrong with it, as the end of a sentence; empty when nothing is."""
    try:
        if not is_canonical(event):
            return "it is not canonical JSON (RFC 8785)"
    except ValueError:
        return "it is not JSON"
    body = json.loads(event)
    if not isinstance(body, dict) or body.get("tenant") != tenant:
        return f"it is not an event of {tenant}"
    return ""
