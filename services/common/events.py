"""Events enter the outbox in the transaction they tell of, or not at all; what people wrote is sealed in them, and
opened here alone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TypeAlias

from services.common.clock import new_id, rfc3339
from services.common.db import Transaction
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.events.v1alpha1.routing_pb2 import RoutingEvent

Event: TypeAlias = MessageEvent | RoutingEvent

LONGEST_TEXT = 2 * 1024 * 1024
"""Bytes. Sealed it still fits into an event (outbox.LONGEST_EVENT)."""
SEALED = ("text", "person")
"""The fields of events that are."""


async def append(tx: Transaction, event: Event, *, text: str = "", person: str = "") -> None:
    """Stamp the event with id, time, tenant and pseudonym, and write it down at commit for the topic that its contract
    names. It is one of the events of `person` (absent: the caller), in order with their others. `text` is what they
    wrote or were answered: it goes along sealed with their key. One that no event can hold is left out, and the event
    says so: nothing fails by it.

    Raises ValueError, which fails the transaction, when the event is not what its schema promises.
    """
    stamp(event, tx.caller.tenant, await tx.pseudonym(person), tx.clock.now())
    if text and isinstance(event, MessageEvent):
        if len(text.encode()) > LONGEST_TEXT:
            event.left_out = True
        else:
            event.text = await tx.seal(text, person or tx.caller.subject, event.id)
    tx.tell(event)


def stamp(event: Event, tenant: str, pseudonym: str, now: datetime) -> None:
    """What every event says of itself."""
    event.id, event.version, event.time = str(new_id()), 1, rfc3339(now)
    event.tenant, event.subject = tenant, pseudonym


async def opened(tx: Transaction, payload: bytes) -> str | None:
    """What is sealed in an event of the log: the text of a person, or in the audit trail their name. None when there is
    nothing sealed in it, or the person was forgotten. `tx` is a worker's (Database.own): Postgres gives no other the
    keys, but for the console those of the tenant that its transaction is in.

    Raises sealing.Unreadable for what was altered, or moved here from another event.
    """
    body = json.loads(payload)
    sealed = next((body[name] for name in SEALED if name in body), None)
    return await tx.open(sealed, body["id"], body["tenant"]) if sealed else None
