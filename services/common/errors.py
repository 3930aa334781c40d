"""The nine kinds of refusal, and how each looks on the wire.

Raise one of them where the fault is known, with a reason from error_reason.proto and a sentence a person can act on:

    raise Conflict("TURN_RUNNING", "Wait for the answer, or cancel it.", turn=turn.name)
"""

from __future__ import annotations

from typing import ClassVar

from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from soma.common.v1.error_reason_pb2 import ErrorReason
from soma.common.v1.failure_pb2 import Failure

DOMAIN = "soma"
PREFIX = "ERROR_REASON_"
MOST_SAID_BYTES, MOST_FACT_BYTES = 1024, 512
"""Of a status on the wire: it travels in trailers, which clients and the edge take up to 8 KiB of, percent-encoded."""
CATALOGUE = frozenset(name.removeprefix(PREFIX) for name in ErrorReason.keys())  # noqa: SIM118 - an enum wrapper, no dict


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault
    """A call that ends with a status. `metadata` are facts for the client's program, as strings."""

    code: ClassVar[int]
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str, message: str, *, retry_after_s: float | None = None, **metadata: str) -> None:
        if reason not in CATALOGUE:
            raise LookupError(f"{reason} is not in error_reason.proto")
        super().__init__(message)
        self.reason, self.message, self.metadata, self.retry_after_s = reason, message, metadata, retry_after_s

    def status(self) -> status_pb2.Status:
        """The refusal as google.rpc.Status with ErrorInfo, and RetryInfo where a retry helps."""
        status = status_pb2.Status(code=self.code, message=cut(self.message, MOST_SAID_BYTES))
        facts = {name: cut(fact, MOST_FACT_BYTES) for name, fact in self.metadata.items()}
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=facts)
        status.details.add().Pack(info)
        if self.retry_after_s is not None:
            delay = Duration()
            delay.FromMilliseconds(int(self.retry_after_s * 1000))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status

    def failure(self) -> Failure:
        """The refusal as an in-band error of a stream."""
        return Failure(reason=self.reason, message=self.message, retryable=self.retryable)


class Invalid(Refusal):
    """400: the request can never succeed as it is."""

    code = code_pb2.INVALID_ARGUMENT


class Unauthenticated(Refusal):
    """401: who is calling?"""

    code = code_pb2.UNAUTHENTICATED


class Denied(Refusal):
    """403: known, and not allowed."""

    code = code_pb2.PERMISSION_DENIED


class NotFound(Refusal):
    """404: not there, or not the caller's."""

    code = code_pb2.NOT_FOUND


class Exists(Refusal):
    """409: already made."""

    code = code_pb2.ALREADY_EXISTS


class Conflict(Refusal):
    """409: someone else was faster."""

    code = code_pb2.ABORTED
    retryable = True


class Precondition(Refusal):
    """400: not in this state."""

    code = code_pb2.FAILED_PRECONDITION


class Exhausted(Refusal):
    """429: too much at once. Without a time to come back, the same will not succeed soon."""

    code = code_pb2.RESOURCE_EXHAUSTED

    def failure(self) -> Failure:
        return Failure(reason=self.reason, message=self.message, retryable=self.retry_after_s is not None)


class Unavailable(Refusal):
    """503: a part is down."""

    code = code_pb2.UNAVAILABLE
    retryable = True


class TooLate(Refusal):
    """504: the deadline has passed."""

    code = code_pb2.DEADLINE_EXCEEDED
    retryable = True


class Unexpected(Refusal):
    """500: a fault of ours. Made by the interceptor only."""

    code = code_pb2.INTERNAL


def refusal_of(status: status_pb2.Status) -> Refusal:
    """The refusal that another room sent; one without a reason of ours becomes Unavailable ROOM_UNAVAILABLE."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    kind = KINDS.get(status.code)
    if kind is None or info.reason not in CATALOGUE:
        return Unavailable("ROOM_UNAVAILABLE", status.message or "A part of the mesh did not answer.", retry_after_s=1)
    return kind(info.reason, status.message, retry_after_s=retry_after_s, **dict(info.metadata))


def cut(text: str, most_bytes: int) -> str:
    """What repeats a client's words may be as long as those."""
    raw = text.encode()
    return text if len(raw) <= most_bytes else f"{raw[: most_bytes - 3].decode(errors='ignore')}…"


KINDS: dict[int, type[Refusal]] = {
    kind.code: kind
    for kind in (
        Invalid, Unauthenticated, Denied, NotFound, Exists, Conflict, Precondition, Exhausted, Unavailable, TooLate,
        Unexpected,
    )
}  # fmt: skip
