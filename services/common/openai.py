"""How OpenAI's clients are told of a refusal: its type and code, by our reason. Pure."""

from __future__ import annotations

from services.common.errors import CATALOGUE

INVALID, DENIED, BUSY, OURS = "invalid_request_error", "permission_error", "rate_limit_error", "server_error"
QUOTA = "insufficient_quota"
KNOWN = {
    "TOKEN_REFUSED": (INVALID, "invalid_api_key"),
    "ROLE_REFUSED": (DENIED, "role_refused"),
    "WORKLOAD_REFUSED": (DENIED, "workload_refused"),
    "TENANT_UNKNOWN": (DENIED, "tenant_unknown"),
    "MODEL_UNKNOWN": (INVALID, "model_not_found"),
    "CONTEXT_TOO_LONG": (INVALID, "context_length_exceeded"),
    "MODEL_BUSY": (BUSY, "rate_limit_exceeded"),
    "ROOM_BUSY": (BUSY, "rate_limit_exceeded"),
    "BUDGET_SPENT": (QUOTA, QUOTA),
}
FAULTS = ("_UNAVAILABLE", "_EXCEEDED", "_FAILED", "_CUT", "_TIMEOUT", "INTERRUPTED", "UNEXPECTED")
"""How the reasons end that blame the mesh or a provider."""


def type_and_code(reason: str) -> tuple[str, str]:
    """Those that OpenAI itself uses where it has a word for it; else the reason in small letters is the code."""
    return KNOWN.get(reason) or (OURS if reason.endswith(FAULTS) else INVALID, reason.lower())


def every() -> dict[str, tuple[str, str]]:
    """Type and code of each reason of the catalogue."""
    return {reason: type_and_code(reason) for reason in sorted(CATALOGUE)}
