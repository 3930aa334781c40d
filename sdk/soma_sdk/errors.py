# ruff: noqa: N818 - a refusal is an answer, not a fault
"""What a call can end with: one class a kind, each with a reason from the catalogue and a sentence for a person.

try:
    answer = await soma.ask("…", conversation=name)
except Conflict as refusal:
    if refusal.reason == "TURN_RUNNING":
        await soma.stub(ChatServiceStub).cancel_turn(CancelTurnRequest(name=refusal.metadata["turn"]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from betterproto import Message
from grpclib import GRPCError, Status
from grpclib.encoding.base import StatusDetailsCodecBase

from soma_api.google.rpc import ErrorInfo, RetryInfo
from soma_api.google.rpc import Status as RpcStatus
from soma_api.soma.common.v1 import Failure

DOMAIN = "soma"


class SomaError(Exception):
    """A call that was refused or failed. `metadata` are facts for a program; `retry_after_s` is set where the same call
    may succeed later."""

    code: ClassVar[Status] = Status.UNKNOWN

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{message} ({reason})")
        self.reason, self.message, self.retry_after_s = reason, message, retry_after_s
        self.metadata = dict(metadata or {})


class Invalid(SomaError):
    """The request can never succeed as it is."""

    code = Status.INVALID_ARGUMENT


class Unauthenticated(SomaError):
    """Who is calling? The token is missing, has expired, or could not be renewed."""

    code = Status.UNAUTHENTICATED


class Denied(SomaError):
    """Known, and not allowed."""

    code = Status.PERMISSION_DENIED


class NotFound(SomaError):
    """Not there, or not the caller's; also a method that this mesh does not have."""

    code = Status.NOT_FOUND


class Exists(SomaError):
    """Already made; also a request_id that was used for something else."""

    code = Status.ALREADY_EXISTS


class Conflict(SomaError):
    """Someone else was faster."""

    code = Status.ABORTED


class Precondition(SomaError):
    """Not in this state."""

    code = Status.FAILED_PRECONDITION


class Exhausted(SomaError):
    """Too much at once."""

    code = Status.RESOURCE_EXHAUSTED


class Unavailable(SomaError):
    """A part is down, or nothing answers."""

    code = Status.UNAVAILABLE


class NotTaken(Unavailable):
    """It is certain that the call was not made: whatever it is, it may be made again."""


class TooLate(SomaError):
    """The deadline has passed."""

    code = Status.DEADLINE_EXCEEDED


class Unexpected(SomaError):
    """A fault on the other side; the message names the trace to report."""

    code = Status.INTERNAL


class Failed(SomaError):
    """A turn, or a watch, that ended with `error`. What it said before is kept."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason, failure.message)
        self.retryable = failure.retryable


KINDS: dict[Status, type[SomaError]] = {
    kind.code: kind
    for kind in (
        Invalid, Unauthenticated, Denied, NotFound, Exists, Conflict, Precondition, Exhausted, Unavailable, TooLate,
        Unexpected,
    )
}  # fmt: skip
CUT = frozenset({Status.UNAVAILABLE, Status.CANCELLED, Status.UNKNOWN})
"""What proxies and dying servers say: without a reason of ours it means that nothing was answered."""


def error_of(fault: GRPCError) -> SomaError:
    """The error that the mesh meant by a status."""
    details: Iterable[Message] = fault.details or ()
    info = next((d for d in details if isinstance(d, ErrorInfo) and d.domain == DOMAIN), None)
    retry = next((d.retry_delay.total_seconds() for d in details if isinstance(d, RetryInfo)), None)
    message = fault.message or "The call failed."
    kind = NotFound if fault.status is Status.UNIMPLEMENTED else KINDS.get(fault.status, Unexpected)
    if info is not None:
        return kind(info.reason, message, retry_after_s=retry, metadata=info.metadata)
    if fault.status in CUT:
        return lost(message)
    return kind(fault.status.name, message, retry_after_s=retry)


def lost(why: str) -> Unavailable:
    """A connection that broke, or never came to be. The call may be made again at once."""
    return Unavailable("ROOM_UNAVAILABLE", f"No answer: {why}", retry_after_s=0.0)


class Details(StatusDetailsCodecBase):
    """Reads grpc-status-details-bin with the contract's own messages. Details of other kinds are left out."""

    TYPES: ClassVar[dict[str, type[ErrorInfo] | type[RetryInfo]]] = {
        "type.googleapis.com/google.rpc.ErrorInfo": ErrorInfo,
        "type.googleapis.com/google.rpc.RetryInfo": RetryInfo,
    }

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        raise NotImplementedError("Clients send no status.")

    def decode(self, status: Status, message: str | None, data: bytes) -> list[Message]:  # noqa: ARG002
        try:
            found = RpcStatus.FromString(data).details
            return [self.TYPES[any.type_url].FromString(any.value) for any in found if any.type_url in self.TYPES]
        except (ValueError, EOFError):  # not ours: the status itself still says enough
            return []
