"""Refusals in OpenAPI: what a status looks like, and which reasons come with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from proto.surfaces.reasons import Reason

DOMAIN = "soma"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
STATUS, OPENAI_ERROR = "google.rpc.Status", "openai.Error"
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 413: 3, 429: 8, 500: 13, 503: 14, 504: 4}
"""google.rpc.Code by HTTP status, for the examples."""
CODES_OF = {"REQUEST_ID_REUSED": 6, "CANVAS_FULL": 9}
"""Of reasons that have another: ALREADY_EXISTS, FAILED_PRECONDITION."""
RETRIED = (429, 503)


def answers(reasons: Iterable[Reason], form: str = STATUS) -> Mapping[str, Any]:
    """A response a status, in order, each naming its reasons. `form` is the schema of its body."""
    by_status: dict[int, list[Reason]] = defaultdict(list)
    for reason in reasons:
        by_status[reason.status].append(reason)
    return {str(status): answer(found, form) for status, found in sorted(by_status.items())}


def answer(reasons: list[Reason], form: str = STATUS) -> Mapping[str, Any]:
    shown = {"examples": {reason.name: ref("examples", reason.name) for reason in reasons}} if form == STATUS else {}
    return {
        "description": "\n".join(f"- `{reason.name}`: {told(reason)}" for reason in reasons),
        "x-reasons": [reason.name for reason in reasons],
        "content": {
            "application/json": {
                "schema": ref("schemas", form),
                **shown,
            }
        },
    }


def told(reason: Reason) -> str:
    """What the catalogue says, without the status."""
    more = reason.means.partition(", ")[2] or ("" if reason.example else reason.means)
    said = f"{more} Example: {reason.example}" if more and reason.example else more or reason.example
    return capital(said)


def capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def default_answer(form: str = STATUS) -> Mapping[str, Any]:
    return {
        "description": "Any other refusal.",
        "content": {"application/json": {"schema": ref("schemas", form)}},
    }


def examples(known: Mapping[str, Reason]) -> Mapping[str, Any]:
    """A refusal for each reason. The sentence is the catalogue's; the mesh says what to do."""
    return {
        reason.name: {
            "summary": f"{reason.status} {reason.name}",
            "value": {
                "code": CODES_OF.get(reason.name, CODES[reason.status]),
                "message": capital(reason.example) or told(reason),
                "details": [
                    {"@type": ERROR_INFO, "reason": reason.name, "domain": DOMAIN, "metadata": {}},
                    *([{"@type": RETRY_INFO, "retryDelay": "1s"}] if reason.status in RETRIED else []),
                ],
            },
        }
        for reason in sorted(known.values(), key=lambda reason: reason.name)
        if reason.status
    }


def status_schemas(known: Mapping[str, Reason]) -> dict[str, Any]:
    """google.rpc's messages as they come here: always with a reason, sometimes with a delay."""
    info = {"reason": {"type": "string", "enum": [reason.name for reason in known.values() if reason.status]}}
    return {
        OPENAI_ERROR: openai_error(),
        STATUS: {
            "type": "object",
            "title": "Status",
            "description": "A refusal. The first detail is an ErrorInfo.",
            "properties": {
                "code": {"type": "integer", "description": "google.rpc.Code.", "minimum": 1, "maximum": 16},
                "message": {"type": "string", "description": "One sentence for a person: what happened, what to do."},
                "details": {
                    "type": "array",
                    "minItems": 1,
                    "prefixItems": [ref("schemas", "google.rpc.ErrorInfo")],
                    "items": ref("schemas", "google.rpc.RetryInfo"),
                },
            },
            "required": ["code", "message", "details"],
        },
        "google.rpc.ErrorInfo": {
            "type": "object",
            "title": "ErrorInfo",
            "description": "Why, for a program.",
            "properties": {
                "@type": {"const": ERROR_INFO},
                **info,
                "domain": {"const": DOMAIN},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["@type", "reason", "domain"],
        },
        "google.rpc.RetryInfo": {
            "type": "object",
            "title": "RetryInfo",
            "description": "The same request may succeed after this time.",
            "properties": {
                "@type": {"const": RETRY_INFO},
                "retryDelay": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?s$"},
            },
            "required": ["@type", "retryDelay"],
        },
    }


def openai_error() -> Mapping[str, Any]:
    code = "`x-reasons` in small letters, but where OpenAI has a word of its own: `model_not_found`."
    return {
        "type": "object",
        "title": "Error",
        "description": "A refusal as OpenAI's clients know it.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string", "description": "One sentence for a person."},
                    "type": {"type": "string", "description": "Such as `invalid_request_error`."},
                    "param": {"type": ["string", "null"], "description": "The field that is to blame."},
                    "code": {"type": "string", "description": code},
                },
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    }


def ref(kind: str, name: str) -> Mapping[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
