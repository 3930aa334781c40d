"""The call that is being served now: who asked for what, through whom. Set by the interceptor, read by the doors."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import Message

from services.common.caller import Caller


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC. `action` is the audit action of a write and empty for a read."""

    method: str
    action: str
    workload: str
    traceparent: str
    person: Caller | None
    request: Message | None = None
    """What was asked, where it is one message."""

    @property
    def trace(self) -> str:
        """The W3C trace ID in hex; empty without a trace."""
        return self.traceparent[3:35]

    @property
    def caller(self) -> Caller:
        """Who asks. Only public methods have nobody."""
        if self.person is None:
            raise LookupError(f"{self.method} is public: nobody is known to ask")
        return self.person


NOBODY = Call(method="", action="", workload="", traceparent="", person=None)
current: ContextVar[Call] = ContextVar("call", default=NOBODY)


def caller() -> Caller:
    """Who asks, in the handler of a method that is not public."""
    return current.get().caller
