"""Audit rows: who did what to what, and how it ended. Written in the transaction that did it."""

from __future__ import annotations

from datetime import datetime

from services.common.call import Call
from services.common.caller import Caller
from services.common.clock import new_id, rfc3339
from services.common.schemas import to_json
from soma.events.v1alpha1.audit_pb2 import AuditEvent

INSERT = "INSERT INTO soma.audit (id, tenant, action, body) VALUES ($1, $2, $3, $4)"


def event(
    caller: Caller, action: str, call: Call, now: datetime, *, resource: str | None = None, reason: str | None = None
) -> AuditEvent:
    """What is to be written; with a reason it was refused."""
    return AuditEvent(
        id=str(new_id()),
        action=action,
        version=1,
        time=rfc3339(now),
        tenant=caller.tenant,
        subject=caller.subject,
        workload=call.workload or None,
        resource=resource,
        outcome="refused" if reason else "done",
        reason=reason,
        trace=call.trace or None,
    )


def row(event: AuditEvent) -> tuple[str, str, str, str, str]:
    """The statement and its values, checked against the event's schema."""
    return INSERT, event.id, event.tenant, event.action, to_json(event)
