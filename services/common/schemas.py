"""The one door to JSON Schema: an event becomes JSON only if it is what its committed schema promises. The JSON is
canonical (RFC 8785), so that its bytes may be signed."""

from __future__ import annotations

import json
from functools import cache

import jsonschema_rs
import rfc8785
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.common.generated import GENERATED


def to_json(event: Message) -> str:
    """The event as JSON. Raises ValueError, which fails the caller's transaction, when it breaks its schema."""
    body = MessageToDict(event, always_print_fields_with_no_presence=True)
    try:
        validator(event.DESCRIPTOR.full_name).validate(body)
    except jsonschema_rs.ValidationError as fault:
        raise ValueError(f"{event.DESCRIPTOR.full_name} breaks its schema: {fault.message}") from fault
    return rfc8785.dumps(body).decode()


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((GENERATED / f"schemas/{name}.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
