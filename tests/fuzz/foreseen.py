"""Which answers blame us, and which of those a healthy house may give all the same."""

from __future__ import annotations

from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError

from services.common.errors import CATALOGUE
from tests.fuzz.front import blamed
from tests.fuzz.methods import Method

OURS = frozenset({"UNEXPECTED", "STORE_UNAVAILABLE", "ROOM_UNAVAILABLE", "MODEL_UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""Reasons that blame us. In a healthy house no request brings them about, but for what is foreseen."""
NONE: frozenset[str] = frozenset()
CLOSED = frozenset({"MODEL_UNAVAILABLE"})
"""The request itself may leave no model open: by its hints, or at the front door, where models have names."""


def foreseen(method: Method, body: bytes) -> frozenset[str]:
    if "CompletionsService" in method.path:
        return CLOSED
    try:
        request: Any = method.request.FromString(body)
    except DecodeError:
        return NONE
    return CLOSED if "hints" in request.DESCRIPTOR.fields_by_name and request.HasField("hints") else NONE


def in_band(message: Any) -> str:
    """What a message tells of a fault of ours. Empty when it tells of none."""
    if isinstance(getattr(message, "body", None), HttpBody):
        return blamed(message.body.data)
    for failure in (getattr(message, "error", None), getattr(getattr(message, "outcome", None), "failure", None)):
        if failure is not None and failure.reason and failure.reason not in CATALOGUE - OURS:
            return f"in band {failure.reason}: {failure.message}"
    return ""
