"""How messages look as JSON at the edge: one schema of OpenAPI's components a message and direction.

An answer holds every field but unset messages, `optional` ones and the others of a oneof. A request may leave out what
no rule asks for, and has no place for what is OUTPUT_ONLY.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from proto.surfaces.contract import Contract
from proto.surfaces.rules import Keywords, keywords, needs_value, rules_of

Side = Literal["answer", "request"]
OUTPUT_ONLY, IMMUTABLE = field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IMMUTABLE
INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
UINT32 = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
SCALARS: Mapping[int, Keywords] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_UINT32: UINT32,
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
WELL_KNOWN: Mapping[str, Keywords] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Value": {},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Empty": {"type": "object"},
    "google.api.HttpBody": {"type": "object"},
}


@dataclass(frozen=True)
class Shapes:
    """The schemas that operations have asked for, by the name under which they refer to them."""

    contract: Contract
    schemas: dict[str, Keywords] = field(default_factory=dict)
    fields: dict[str, list[FieldDescriptor]] = field(default_factory=dict)
    """Those that each schema has."""

    def answer(self, message: Descriptor) -> Keywords:
        """A reference to the message as the edge sends it."""
        return self._kept(message.full_name, message, "answer")

    def request(self, message: Descriptor, without: Collection[str] = ()) -> Keywords:
        """A reference to the message as the edge takes it, without the fields that stand in the path."""
        name = message.full_name if message.name.endswith("Request") else f"{message.full_name}.Input"
        return self._kept(name, message, "request", without)

    def of_field(self, field: FieldDescriptor, side: Side) -> Keywords:
        """The field's schema with its rules and what its comment says."""
        schema = merged(self._typed(field, side), keywords(rules_of(field)))
        if OUTPUT_ONLY in behaviour(field):
            schema["readOnly"] = True
        return schema | {"description": self.says(field)}

    def says(self, field: FieldDescriptor) -> str:
        words = [self.text(field.full_name)]
        if IMMUTABLE in behaviour(field):
            words.append("Set when it is made, and never after.")
        words += [f"`{rule.id}`: {rule.message}" for rule in rules_of(field).cel]
        return "\n\n".join(words)

    def text(self, full_name: str) -> str:
        """A comment, with fields called as they are in JSON."""
        return re.sub(
            r"\b[a-z]+(_[a-z0-9]+)+\b", lambda found: self._json_names.get(found[0], found[0]),
            self.contract.comments[full_name],
        )  # fmt: skip

    @cached_property
    def _json_names(self) -> Mapping[str, str]:
        """request_id: requestId, for every field of the contract."""
        messages = [m for module in self.contract.modules for m in module.DESCRIPTOR.message_types_by_name.values()]
        return {field.name: field.json_name for message in messages for field in message.fields}

    def _kept(self, name: str, message: Descriptor, side: Side, without: Collection[str] = ()) -> Keywords:
        """A reference; where it was kept with other fields, because of another path, the schema itself."""
        if message.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[message.full_name])
        fields = [f for f in message.fields if f.name not in without]
        if side == "request":
            fields = [f for f in fields if OUTPUT_ONLY not in behaviour(f)]
        if name not in self.fields:
            self.fields[name] = fields  # known before it is made, for messages that hold themselves
            self.schemas[name] = self._object(message, fields, side)
        elif self.fields[name] != fields:
            return self._object(message, fields, side)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, message: Descriptor, fields: list[FieldDescriptor], side: Side) -> Keywords:
        required = [f.json_name for f in fields if (needs_value(f) if side == "request" else not f.has_presence)]
        choices = [one_of(oneof) for oneof in message.oneofs if not is_optional(oneof)]
        return (
            {"type": "object", "title": message.name, "description": self.text(message.full_name)}
            | {"properties": {f.json_name: self.of_field(f, side) for f in fields}}
            | ({"required": required} if required else {})
            | (choices[0] if len(choices) == 1 else {"allOf": choices} if choices else {})
        )

    def _typed(self, field: FieldDescriptor, side: Side) -> Keywords:
        """The bare type."""
        kind = field.message_type
        if kind and kind.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._typed(kind.fields_by_name["value"], side)}
        one = self._single(field, side)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _single(self, field: FieldDescriptor, side: Side) -> Keywords:
        if field.enum_type:
            return self._enum(field.enum_type)
        if not field.message_type:
            return dict(SCALARS.get(field.type) or sys.exit(f"{field.full_name}: this type has no JSON Schema yet."))
        name = field.message_type.full_name
        if name in WELL_KNOWN:
            return dict(WELL_KNOWN[name])
        if name.startswith("google."):
            sys.exit(f"{field.full_name}: {name} has no JSON Schema yet: teach it to proto/surfaces/shapes.py.")
        return self.answer(field.message_type) if side == "answer" else self.request(field.message_type)

    def _enum(self, enum: EnumDescriptor) -> Keywords:
        """By name. What each value means stands in the description."""
        meanings = "\n".join(f"- {self.text(f'{enum.full_name}.{value.name}')}" for value in enum.values)
        self.schemas[enum.full_name] = {
            "type": "string",
            "title": enum.name,
            "description": f"{self.text(enum.full_name)}\n\n{meanings}",
            "enum": [value.name for value in enum.values],
        }
        return {"$ref": f"#/components/schemas/{enum.full_name}"}


def behaviour(field: FieldDescriptor) -> Collection[int]:
    marks: Collection[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return marks


def merged(schema: Keywords, more: Keywords) -> Keywords:
    """Both, key by key: the rules of items go into the schema of items."""
    both = schema | more
    return both | {
        key: merged(schema[key], more[key]) for key in schema.keys() & more.keys() if isinstance(more[key], dict)
    }


def one_of(oneof: OneofDescriptor) -> Keywords:
    """At most one of the members: none where what happened is newer than the reader."""
    members: list[Any] = [{"required": [field.json_name]} for field in oneof.fields]
    return {"oneOf": [*members, {"not": {"anyOf": members}}]}


def is_optional(oneof: OneofDescriptor) -> bool:
    """What protobuf makes of an `optional` field."""
    return oneof.name.startswith("_")
