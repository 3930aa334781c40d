"""One JSON Schema (2020-12) an event: what its proto3 JSON looks like, with the protovalidate rules."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from proto.surfaces.contract import Contract
from proto.surfaces.rules import Keywords, keywords, rules_of
from soma.common.v1.topic_pb2 import topic

TYPES: dict[int, Keywords] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "pattern": "^-?[0-9]{1,19}$"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
}


def write_event_schemas(gen: Path, contract: Contract) -> None:
    """A message is an event when it names its topic."""
    (gen / "schemas").mkdir()
    for module in contract.modules:
        for message in module.DESCRIPTOR.message_types_by_name.values():
            if message.GetOptions().Extensions[topic]:
                text = json.dumps(event_schema(message), indent=2)
                (gen / "schemas" / f"{message.full_name}.json").write_text(text + "\n")


def event_schema(message: Descriptor) -> dict[str, object]:
    """Every field without `optional` is required: events are written with all their fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{message.full_name}.json",
        "type": "object",
        "properties": {f.json_name: field_schema(f) for f in message.fields},
        "required": [f.json_name for f in message.fields if not f.has_presence],
        "additionalProperties": False,
    }


def field_schema(field: FieldDescriptor) -> Keywords:
    if field.is_repeated or field.type not in TYPES:
        sys.exit(f"{field.full_name}: events are flat; this type has no place in one.")
    return TYPES[field.type] | keywords(rules_of(field))
