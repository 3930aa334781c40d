"""Whether this release can read an event: by the version that it says and by its committed schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from google.protobuf.message import Message

from services.common import schemas
from services.common.log.log import Entry
from soma.common.v1.topic_pb2 import topic
from soma.events.v1alpha1.audit_pb2 import AuditEvent
from soma.events.v1alpha1.delegation_pb2 import DelegationEvent
from soma.events.v1alpha1.memory_pb2 import MemoryEvent
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.events.v1alpha1.mode_pb2 import EnterpriseModeEvent, ModeEvent
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.events.v1alpha1.tool_pb2 import ToolEvent

VERSION = 1
"""The newest that this release knows."""
EVENTS: tuple[type[Message], ...] = (
    AuditEvent, DelegationEvent, EnterpriseModeEvent, MemoryEvent, MessageEvent, ModeEvent, RoutingEvent, ToolEvent,
)  # fmt: skip


def flaw(entry: Entry) -> str:
    """Why this release cannot read the event; empty when it can. Never raises, whatever is in the payload."""
    name = names().get(entry.topic)
    if name is None:
        return f"No event of this release belongs to the topic {entry.topic}."
    validator = schemas.validator(name)
    try:
        body = body_of(entry.payload)
        version = body.get("version") if isinstance(body, dict) else None
        if isinstance(version, int) and version > VERSION:
            return f"The event has version {version}; this release knows up to {VERSION}. Upgrade, then retry it."
        broken = next(validator.iter_errors(body), None)
        return f"The payload is no {name.rpartition('.')[2]}: {broken.message}" if broken else mismatch(entry, body)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return "The payload is no JSON."
    except Exception as fault:  # JSON that Python cannot hold: too deep, halves of characters, endless numbers
        return f"The payload cannot be read: {type(fault).__name__}."


def body_of(payload: bytes) -> Any:
    """What JSON says: the fast way, and where that takes less than others the slow one."""
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return json.loads(payload.decode())


def mismatch(entry: Entry, body: Mapping[str, Any]) -> str:
    """Where the log says something else of the event than the event itself."""
    if body["id"] != str(entry.id):
        return f"The event says that its id is {body['id']}, and the log says {entry.id}."
    if body["tenant"] != entry.tenant:
        return f"The event says that it is of the tenant {body['tenant']}, and the log says {entry.tenant}."
    if f"{body['tenant']}/{body['subject']}" != entry.key:
        return f"The event says that it is of {body['subject']}, and its key in the log is {entry.key}."
    return ""


@cache
def names() -> Mapping[str, str]:
    """The event's full name, by topic."""
    return {event.DESCRIPTOR.GetOptions().Extensions[topic]: event.DESCRIPTOR.full_name for event in EVENTS}
