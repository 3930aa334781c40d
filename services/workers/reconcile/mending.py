"""Events made again from the rows that they told of: by the workers' own name, with the time at which it happened."""

from __future__ import annotations

from typing import Any

from services.common.clock import new_id, rfc3339
from services.common.db import Transaction
from services.common.events import LONGEST_TEXT, Event
from services.common.routing import decided_event, settled_event
from services.workers.reconcile.findings import Finding
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.router.v1.routing_pb2 import Outcome

CONVERSATION = "SELECT subject, title, create_time FROM conversations WHERE id = $1"
TURN = """
SELECT conversation, subject, question, answer, cost_microusd, error, create_time, end_time FROM turns WHERE id = $1
"""
PANE = "SELECT subject, version, writer, text, version_time FROM panes WHERE conversation = $1 AND id = $2"
DECISION = """
SELECT turn, decision, context_hash, create_time, input_tokens, output_tokens, cost_microusd, first_token_ms,
       finish_reason, reason, settle_time
FROM decisions WHERE id = $1
"""
STATEMENTS = {"conversation": CONVERSATION, "turn": TURN, "pane": PANE, "routing": DECISION}


async def mend(tx: Transaction, finding: Finding) -> bool:
    """Tell the missing event again, and the audit trail of it. False when the row has gone meanwhile. `tx` is of the
    tenant, as the workers."""
    about = finding.event.partition(".")[0]
    row = await tx.fetchrow(STATEMENTS[about], *finding.ids)
    if row is None:
        return False
    event = MAKERS[about](finding, row)
    event.id, event.version, event.tenant, event.subject = str(new_id()), 1, tx.caller.tenant, tx.caller.subject
    if isinstance(event, MessageEvent) and (text := text_of(finding, row)):
        await add_text(tx, event, text, row["subject"])
    tx.tell(event)
    await tx.audit("reconcile.repaired", resource=finding.resource)
    return True


async def add_text(tx: Transaction, event: MessageEvent, text: str, writer: str) -> None:
    """Sealed with the key of who wrote it. Who was forgotten gets no new one."""
    event.size_bytes = len(text.encode())
    if event.size_bytes > LONGEST_TEXT:
        event.left_out = True
    elif await tx.known_as(writer):
        event.text = await tx.seal(text, writer, event.id)


def text_of(finding: Finding, row: Any) -> str:
    column = {"conversation.created": "title", "turn.asked": "question"}.get(finding.event)
    text: str = row[column or ("text" if finding.event.startswith("pane.") else "answer")]
    return text


def of_conversation(finding: Finding, row: Any) -> Event:
    return MessageEvent(type=finding.event, time=rfc3339(row["create_time"]), conversation=finding.resource)


def of_turn(finding: Finding, row: Any) -> Event:
    event = MessageEvent(
        type=finding.event, conversation=f"conversations/{row['conversation']}", turn=finding.resource, size_bytes=0
    )
    if finding.event == "turn.asked":
        event.time = rfc3339(row["create_time"])
        return event
    event.time, event.cost_microusd = rfc3339(row["end_time"]), row["cost_microusd"]
    if row["error"]:
        event.reason = Failure.FromString(row["error"]).reason
    return event


def of_pane(finding: Finding, row: Any) -> Event:
    return MessageEvent(
        type="pane.created" if row["version"] == 1 else "pane.updated",
        time=rfc3339(row["version_time"]),
        conversation=f"conversations/{finding.ids[0]}",
        pane=finding.resource,
        turn=row["writer"] or None,
        size_bytes=0,
    )


def of_decision(finding: Finding, row: Any) -> Event:
    decision = Decision.FromString(row["decision"])
    if finding.event == "routing.decided":
        event = decided_event(row["turn"], decision, row["context_hash"])
        event.time = rfc3339(row["create_time"])
        return event
    usage = Usage(input_tokens=row["input_tokens"], output_tokens=row["output_tokens"])
    outcome = Outcome(
        usage=usage,
        cost_microusd=row["cost_microusd"],
        first_token_ms=row["first_token_ms"],
        failure=Failure(reason=row["reason"]),
    )
    event = settled_event(row["turn"], decision, outcome, row["finish_reason"])
    event.time = rfc3339(row["settle_time"])
    return event


MAKERS = {"conversation": of_conversation, "turn": of_turn, "pane": of_pane, "routing": of_decision}
