"""Events enter the outbox in the transaction they tell of, or not at all."""

from __future__ import annotations

from typing import TypeAlias

from services.common.clock import new_id, rfc3339
from services.common.db import Transaction
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.events.v1alpha1.routing_pb2 import RoutingEvent

Event: TypeAlias = MessageEvent | RoutingEvent


async def append(tx: Transaction, event: Event, *, text: str = "", writer: str = "") -> None:
    """Stamp the event with id, time, tenant and pseudonym, and write it down at commit for the topic that its contract
    names. `text` is what the person `writer` wrote (absent: the caller): it goes along sealed with their key.

    Raises ValueError, which fails the transaction, when the event is not what its schema promises.
    """
    event.id, event.version, event.time = str(new_id()), 1, rfc3339(tx.clock.now())
    event.tenant, event.subject = tx.caller.tenant, await tx.pseudonym()
    if text and isinstance(event, MessageEvent):
        event.text = await tx.seal(text, writer or tx.caller.subject, event.id)
    tx.tell(event)
