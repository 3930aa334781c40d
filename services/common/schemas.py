"""The one door to JSON Schema: an event becomes JSON only if it is what its committed schema promises. The JSON is
canonical (RFC 8785), so that its bytes may be signed."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs
import rfc8785
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.common.generated import GENERATED

EXACT = 2**53 - 1
"""No whole number beyond it means the same everywhere."""
PLAIN = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def to_json(event: Message) -> str:
    """The event as JSON. Raises ValueError, which fails the caller's transaction, when it breaks its schema."""
    body = MessageToDict(event, always_print_fields_with_no_presence=True)
    try:
        validator(event.DESCRIPTOR.full_name).validate(body)
    except jsonschema_rs.ValidationError as fault:
        raise ValueError(f"{event.DESCRIPTOR.full_name} breaks its schema: {fault.message}") from fault
    return canonical(body).decode()


def canonical(body: Any) -> bytes:
    """RFC 8785. ValueError for what JSON cannot say the same everywhere, such as an integer beyond 2**53."""
    return PLAIN.encode(body).encode() if is_plain(body) else rfc8785.dumps(body)


def is_plain(body: Any) -> bool:
    """Whether the canonical form is what Python's own encoder writes, in a tenth of the time: as it is for events, flat
    bodies of texts, whole numbers and truths under ASCII names."""
    return type(body) is dict and all(
        name.isascii() and (type(value) in (str, bool) or (type(value) is int and -EXACT <= value <= EXACT))
        for name, value in body.items()
    )


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((GENERATED / f"schemas/{name}.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
