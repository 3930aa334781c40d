"""What the edge says when it refuses by itself: google.rpc.Status with a reason, as the rooms do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.rpc import code_pb2

from services.common.errors import DOMAIN

SAID = "%LOCAL_REPLY_BODY%"
AGAIN = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}

# HTTP status: code, reason, what to do.
REFUSALS: Mapping[int, tuple[int, str, str]] = {
    400: (code_pb2.INVALID_ARGUMENT, "REQUEST_MALFORMED", f"The request could not be read: {SAID}. Correct it."),
    401: (code_pb2.UNAUTHENTICATED, "TOKEN_REFUSED", f"The token was refused: {SAID}. Sign in again."),
    404: (code_pb2.NOT_FOUND, "PATH_UNKNOWN", "Nothing is served under this method and path. Check both."),
    408: (code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "The request took too long to arrive. Send it again."),
    413: (code_pb2.INVALID_ARGUMENT, "BODY_TOO_LARGE", "The request is larger than 1 MiB. Send it in parts."),
    431: (code_pb2.INVALID_ARGUMENT, "REQUEST_MALFORMED", "The request's headers are larger than 32 KiB. Send fewer."),
    503: (code_pb2.UNAVAILABLE, "ROOM_UNAVAILABLE", "A part of the mesh is down or restarting. Try again in a moment."),
    504: (code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "The answer took too long. Try again."),
}  # fmt: skip


def mappers() -> list[Mapping[str, Any]]:
    """Envoy's local_reply_config: one for each status, then those that no one foresaw."""
    known = [mapper(status, "EQ", *refusal) for status, refusal in REFUSALS.items()]
    other_audience = {**mapper(403, "EQ", *REFUSALS[401]), "status_code": 401}  # a room would say 401 too
    return [
        keys_unknown(),
        *known,
        other_audience,
        mapper(500, "GE", *REFUSALS[503]),
        mapper(400, "GE", *REFUSALS[400]),
    ]


def keys_unknown() -> Mapping[str, Any]:
    """A token that cannot be checked, because the issuer has not answered yet, is nobody's fault but ours."""
    expression = "response.code_details.contains('Jwks_remote_fetch')"
    cel = {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": expression,
        },
    }
    sentence = "The sign-in service does not answer, so the token cannot be checked. Try again in a moment."
    said = mapper(401, "EQ", code_pb2.UNAVAILABLE, "ROOM_UNAVAILABLE", sentence)
    return {**said, "filter": {"extension_filter": cel}, "status_code": 503}


def mapper(status: int, comparison: str, code: int, reason: str, message: str) -> Mapping[str, Any]:
    compared = {
        "op": comparison,
        "value": {"default_value": status, "runtime_key": f"edge.refusal.{comparison}.{status}"},
    }
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN}]
    again = [AGAIN] if reason == "ROOM_UNAVAILABLE" else []
    said = {"code": code, "message": message, "details": [*details, *again]}
    return {
        "filter": {"status_code_filter": {"comparison": compared}},
        "body_format_override": {"json_format": said},
    }
