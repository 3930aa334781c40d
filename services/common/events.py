"""Events enter the outbox in the transaction they tell of, or not at all."""

from __future__ import annotations

from services.common.clock import new_id, rfc3339
from services.common.db import Transaction
from services.common.schemas import to_json
from soma.common.v1.topic_pb2 import topic
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.events.v1alpha1.routing_pb2 import RoutingEvent

INSERT = """
INSERT INTO soma.outbox (id, tenant, topic, key, type, body, traceparent) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def append(tx: Transaction, event: MessageEvent | RoutingEvent) -> None:
    """Stamp the event with id, time, tenant and subject, check it against its schema, and write it down for the topic
    that its contract names."""
    event.id, event.version, event.time = str(new_id()), 1, rfc3339(tx.clock.now())
    event.tenant, event.subject = tx.caller.tenant, tx.caller.subject
    key = f"{event.tenant}/{event.subject}"
    told_on = event.DESCRIPTOR.GetOptions().Extensions[topic]
    await tx.execute(INSERT, event.id, event.tenant, told_on, key, event.type, to_json(event), tx.call.traceparent)
