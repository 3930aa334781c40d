"""What the edge says when it refuses by itself: google.rpc.Status with a reason, as the rooms do; in gRPC's way too."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.common.api_keys import PREFIX
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


NO_METHOD = (code_pb2.UNIMPLEMENTED, "PATH_UNKNOWN", "No such method is served here. Look it up in the contract.")
KEY_ELSEWHERE = (
    code_pb2.UNAUTHENTICATED,
    "TOKEN_REFUSED",
    "An API key opens the OpenAI paths alone. Sign in, and send your token here.",
)
"""The room's own words: to the edge a key is but a token that is none."""
NO_TOKEN = (
    code_pb2.UNAUTHENTICATED,
    "TOKEN_REFUSED",
    f"What was sent is no token. Sign in again; the OpenAI paths take an API key ({PREFIX}) too: soma key create",
)
KEYS_UNKNOWN = (
    code_pb2.UNAVAILABLE,
    "ROOM_UNAVAILABLE",
    "The sign-in service does not answer, so the token cannot be checked. Try again in a moment.",
)
"""A token that cannot be checked, because the issuer has not answered yet, is nobody's fault but ours."""
STRANGER = (
    code_pb2.PERMISSION_DENIED,
    "WORKLOAD_REFUSED",
    "The certificate has not one SPIFFE ID of a trust domain that is known here. Ask for it to be added: soma peer add",
)

JSON = Mapping[str, Any]
LIKE_A_JWT = r"Bearer [^.]+\.[^.]+\.[^.]*"
DETAILS, GRPC_WEB = "grpc-status-details-bin", "application/grpc-web+proto"


def mappers() -> list[JSON]:
    """Envoy's local_reply_config: one for each status, then those that no one foresaw."""
    return [
        {**in_json(of_details("Jwks_remote_fetch"), *KEYS_UNKNOWN), "status_code": 503},
        in_json(with_key(), *KEY_ELSEWHERE),
        in_json(with_no_token(), *NO_TOKEN),
        *(in_json(of_status(status), *refusal) for status, refusal in REFUSALS.items()),
        {**in_json(of_status(403), *REFUSALS[401]), "status_code": 401},  # another audience: a room would say 401 too
        in_json(of_status(500, "GE"), *REFUSALS[503]),
        in_json(of_status(400, "GE"), *REFUSALS[400]),
    ]


def grpc_mappers() -> list[JSON]:
    """The same for those who speak gRPC."""
    return [in_grpc(when, *refusal) for when, refusal in grpc_refusals()]


def web_mappers() -> list[JSON]:
    """The same by gRPC-Web. What the transcoder made gRPC of is REST, and has kept its path in a header."""
    grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    rest = {"name": "x-envoy-original-path", "present_match": False}
    spoken = [{"header_filter": {"header": header}} for header in (grpc, rest)]
    return [by_web({"and_filter": {"filters": [*spoken, when]}}, *refusal) for when, refusal in grpc_refusals()]


def grpc_refusals() -> list[tuple[JSON, tuple[int, str, str]]]:
    known = {**REFUSALS, 404: NO_METHOD, 403: REFUSALS[401]}
    return [
        (of_details("Jwks_remote_fetch"), KEYS_UNKNOWN),
        (of_details("rbac_access_denied"), STRANGER),
        (with_key(), KEY_ELSEWHERE),
        (with_no_token(), NO_TOKEN),
        *((of_status(status), refusal) for status, refusal in known.items()),
        (of_status(500, "GE"), REFUSALS[503]),
        (of_status(400, "GE"), REFUSALS[400]),
    ]


def in_json(when: JSON, code: int, reason: str, message: str) -> JSON:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN}]
    again = [AGAIN] if reason == "ROOM_UNAVAILABLE" else []
    said = {"code": code, "message": message, "details": [*details, *again]}
    return {"filter": when, "body_format_override": {"json_format": said}}


def in_grpc(when: JSON, code: int, reason: str, message: str) -> JSON:
    """The body becomes `grpc-message`; what was wrong in particular is told there alone."""
    return {
        "filter": when,
        "headers_to_add": headers({"grpc-status": str(code), DETAILS: details(code, reason, message)}),
        "body_format_override": {"text_format_source": {"inline_string": message}},
    }


def by_web(when: JSON, code: int, reason: str, message: str) -> JSON:
    """Headers and no body: Envoy knows by now that it is gRPC, but not that it is to be told so."""
    told = {"grpc-status": str(code), "grpc-message": in_general(message), DETAILS: details(code, reason, message)}
    return {
        "filter": when,
        "status_code": 200,
        "headers_to_add": headers(told),
        "body_format_override": {"text_format_source": {"inline_string": ""}, "content_type": GRPC_WEB},
    }


def details(code: int, reason: str, message: str) -> str:
    status = status_pb2.Status(code=code, message=in_general(message))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    if reason == "ROOM_UNAVAILABLE":
        again = error_details_pb2.RetryInfo()
        again.retry_delay.FromSeconds(1)
        status.details.add().Pack(again)
    return base64.b64encode(status.SerializeToString()).decode()


def in_general(message: str) -> str:
    """A sentence without what was wrong in particular."""
    return message.replace(f": {SAID}", "")


def headers(told: Mapping[str, str]) -> list[JSON]:
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in told.items()
    ]


def of_status(status: int, comparison: str = "EQ") -> JSON:
    """Replies with this HTTP status, or one from there on (GE)."""
    value = {"default_value": status, "runtime_key": f"edge.refusal.{comparison}.{status}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def with_key() -> JSON:
    """Replies that refuse an API key as a token."""
    return authorized({"string_match": {"prefix": f"Bearer {PREFIX}"}})


def with_no_token() -> JSON:
    """Replies that refuse what has not the shape of a token: another gateway's key, say."""
    return authorized({"string_match": {"safe_regex": {"regex": LIKE_A_JWT}}, "invert_match": True})


def authorized(how: JSON) -> JSON:
    header = {"name": "authorization", **how}
    return {"and_filter": {"filters": [of_status(401), {"header_filter": {"header": header}}]}}


def of_details(part: str) -> JSON:
    """Replies whose cause, in Envoy's words, holds this."""
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": f"response.code_details.contains('{part}')",
            },
        }
    }
