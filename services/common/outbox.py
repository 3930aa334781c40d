"""What waits for the relay: rows as events make them, written by one statement a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from services.common.log.topics import slot
from services.common.schemas import to_json
from soma.common.v1.topic_pb2 import topic

LONGEST_EVENT = 3 * 1024 * 1024
"""Bytes. What a transaction tells in one event is bounded; brokers are set up for a little more."""

FEW = 6
INTO = "INSERT INTO soma.outbox (id, tenant, aggregatetype, aggregateid, type, payload, slot, traceparent)"
INSERT = f"""
{INTO}
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::json[], $7::int2[], $8::text[])
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Row:
    """One event, ready to be written."""

    id: str
    tenant: str
    topic: str
    key: str
    type: str
    payload: str
    traceparent: str


def row(event: Any, traceparent: str) -> Row:
    """The event checked against its schema: flat and canonical JSON (RFC 8785). ValueError when it breaks it."""
    message: Message = event
    payload = to_json(message)
    if size(payload) > LONGEST_EVENT:
        raise ValueError(f"{message.DESCRIPTOR.full_name} takes {size(payload)} bytes; {LONGEST_EVENT} is the most")
    told_on, kind = nature(message.DESCRIPTOR)
    key = f"{event.tenant}/{event.subject}"
    return Row(event.id, event.tenant, told_on, key, getattr(event, kind), payload, traceparent)


def size(payload: str) -> int:
    """In bytes."""
    return len(payload) if payload.isascii() else len(payload.encode())


@cache
def nature(message: Descriptor) -> tuple[str, str]:
    """The topic of such events, and which field is their type."""
    return message.GetOptions().Extensions[topic], "action" if "action" in message.fields_by_name else "type"


def as_json(row: Row) -> dict[str, Any]:
    """For statements of others that write it."""
    return {
        "id": row.id, "tenant": row.tenant, "topic": row.topic, "key": row.key, "type": row.type,
        "payload": row.payload, "slot": slot(row.key), "traceparent": row.traceparent,
    }  # fmt: skip


def insert(rows: Sequence[Row]) -> tuple[Any, ...]:
    """The statement that writes the rows in their order, and its values. Few go as plain values: to encode arrays costs
    more than the rest of it."""
    if len(rows) > FEW:
        return (INSERT, *columns(rows))
    values = [
        value for r in rows for value in (r.id, r.tenant, r.topic, r.key, r.type, r.payload, slot(r.key), r.traceparent)
    ]
    return (few(len(rows)), *values)


@cache
def few(rows: int) -> str:
    """INSERT for so many rows, each value a parameter."""
    places = iter(range(1, rows * 8 + 1))
    tuples = ", ".join(f"({', '.join(f'${next(places)}' for _ in range(8))})" for _ in range(rows))
    return f"{INTO} VALUES {tuples}"


def columns(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    """INSERT's values, in order of writing."""
    return (
        [r.id for r in rows], [r.tenant for r in rows], [r.topic for r in rows], [r.key for r in rows],
        [r.type for r in rows], [r.payload for r in rows], [slot(r.key) for r in rows], [r.traceparent for r in rows],
    )  # fmt: skip
