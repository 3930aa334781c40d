"""What the audit trail is told: who did what to what, and how it ended. Told in the transaction that did it."""

from __future__ import annotations

from datetime import datetime

from services.common.call import Call
from services.common.caller import Caller
from services.common.clock import new_id, rfc3339
from services.common.people.sealing import SubjectKey
from soma.events.v1alpha1.audit_pb2 import AuditEvent


def event(
    caller: Caller,
    key: SubjectKey | None,
    action: str,
    call: Call,
    now: datetime,
    *,
    resource: str | None = None,
    reason: str | None = None,
) -> AuditEvent:
    """What is to be told; with a reason it was refused. Without a key the caller is a room."""
    told = AuditEvent(
        id=str(new_id()),
        action=action,
        version=1,
        time=rfc3339(now),
        tenant=caller.tenant,
        subject=key.pseudonym if key else caller.subject,
        workload=call.workload or None,
        resource=resource,
        outcome="refused" if reason else "done",
        reason=reason,
        trace=call.trace or None,
    )
    if key:
        told.person = key.seal(caller.subject, told.id)
        if call.request is not None:
            told.inputs = key.digest(call.request.SerializeToString(deterministic=True))
    return told
