"""Refusals in OpenAI's shape. Those that come as a status get it at the edge; here are the ones told in band. Pure."""

from __future__ import annotations

import msgspec

from services.common.errors import Exhausted, Invalid, Refusal, Unavailable
from services.common.openai import type_and_code
from soma.common.v1.failure_pb2 import Failure

KINDS: dict[str, type[Refusal]] = {
    "CONTEXT_TOO_LONG": Invalid,
    "REQUEST_INVALID": Invalid,
    "MODEL_BUSY": Exhausted,
    "ROOM_BUSY": Exhausted,
}
SOON_S = 1.0
"""When to try again what may be tried again."""


def in_band(failure: Failure) -> bytes:
    """The JSON that ends a stream where a status would no longer be seen."""
    kind, code = type_and_code(failure.reason)
    return msgspec.json.encode({"error": {"message": failure.message, "type": kind, "param": None, "code": code}})


def refusal_of(failure: Failure) -> Refusal:
    """The same for a call whose answer has not begun: a status."""
    kind = KINDS.get(failure.reason, Unavailable)
    return kind(failure.reason, failure.message, retry_after_s=SOON_S if failure.retryable else None)


def wrong(param: str, why: str) -> Invalid:
    """A field that is not as it must be. `why` is what to do about it."""
    return Invalid("REQUEST_INVALID", f"{param}: {why}" if param else why, field=param)
