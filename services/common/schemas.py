"""The one door to JSON Schema: an event becomes JSON only if it is what its committed schema promises. The JSON is
canonical (RFC 8785), so that its bytes may be signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
import rfc8785
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.common.generated import GENERATED

SHORT = {
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_UINT32,
}
DOUBLE = {FieldDescriptor.TYPE_DOUBLE}
LONG = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}
EXACT = 2**53 - 1
"""No whole number beyond it means the same everywhere."""
SORTED = msgspec.json.Encoder(order="deterministic")


def to_json(event: Message) -> str:
    """The event as JSON. Raises ValueError, which fails the caller's transaction, when it breaks its schema."""
    body = body_of(event)
    try:
        validator(event.DESCRIPTOR.full_name).validate(body)
    except jsonschema_rs.ValidationError as fault:
        raise ValueError(f"{event.DESCRIPTOR.full_name} breaks its schema: {fault.message}") from fault
    return canonical(body).decode()


def body_of(event: Message) -> dict[str, Any]:
    """What MessageToDict makes of it, fields without presence always there. For flat events by a short way."""
    form = form_of(event.DESCRIPTOR)
    fields = event.ListFields()
    if form is None or any(field.number not in form.names for field, _ in fields):
        return MessageToDict(event, always_print_fields_with_no_presence=True)
    body = dict(form.unset)
    for field, value in fields:
        body[form.names[field.number]] = str(value) if field.number in form.longs else value
    return body


@dataclass(frozen=True, slots=True)
class Form:
    """How a message of texts, numbers and truths looks as JSON, by numbers of fields."""

    names: Mapping[int, str]
    longs: frozenset[int]
    """Whole numbers of 64 bits are texts in JSON."""
    unset: Mapping[str, Any]


@cache
def form_of(message: Descriptor) -> Form | None:
    """None when a field that is always there is of another kind."""
    plain = [field for field in message.fields if field.type in (*SHORT, *DOUBLE, *LONG) and not field.is_repeated]
    if any(not field.has_presence and field not in plain for field in message.fields):
        return None
    longs = frozenset(field.number for field in plain if field.type in LONG)
    unset = {
        field.json_name: str(field.default_value) if field.type in LONG else field.default_value
        for field in plain
        if not field.has_presence
    }
    return Form({field.number: field.json_name for field in plain}, longs, unset)


def canonical(body: Any) -> bytes:
    """RFC 8785. ValueError for what JSON cannot say the same everywhere, such as an integer beyond 2**53."""
    return SORTED.encode(body) if is_plain(body) else rfc8785.dumps(body)


def is_canonical(payload: bytes) -> bool:
    """Whether these bytes are what `canonical` makes of what they say: no spaces, no name twice, no needless escape.
    ValueError when they are no JSON."""
    try:
        return canonical(msgspec.json.decode(payload)) == payload
    except RecursionError as fault:
        raise ValueError("It is nested too deeply.") from fault


def is_plain(body: Any) -> bool:
    """Whether sorting the names is all that it takes, which is a fiftieth of the work: so it is for events, flat bodies
    of texts, whole numbers, common fractions and truths under ASCII names."""
    if type(body) is not dict:
        return False
    for name, value in body.items():
        kind = type(value)
        if not (kind is str or kind is bool or (kind is int and -EXACT <= value <= EXACT) or is_fraction(value)):
            return False
        if not name.isascii():
            return False
    return True


def is_fraction(value: Any) -> bool:
    """A number that all write alike: as short as it can be, with a point and without an exponent."""
    return type(value) is float and 1e-4 <= abs(value) < 1e9 and not value.is_integer()


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((GENERATED / f"schemas/{name}.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
