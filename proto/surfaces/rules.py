"""protovalidate's rules as keywords of JSON Schema. A rule that is not known here ends `make gen`: none gets lost."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from buf.validate.validate_pb2 import FieldRules, field
from google.protobuf.descriptor import FieldDescriptor

Keywords = dict[str, Any]
Word = Callable[[Any], Keywords]

NUMBER: Mapping[str, Word] = {
    "gte": lambda least: {"minimum": least},
    "gt": lambda below: {"exclusiveMinimum": below},
    "lte": lambda most: {"maximum": most},
    "lt": lambda above: {"exclusiveMaximum": above},
    "const": lambda value: {"const": value},
    "in": lambda values: {"enum": list(values)},
}
WORDS: Mapping[str, Mapping[str, Word]] = {
    "string": {
        "min_len": lambda least: {"minLength": least},
        "max_len": lambda most: {"maxLength": most},
        "pattern": lambda pattern: {"pattern": pattern},
        "const": lambda value: {"const": value},
        "in": lambda values: {"enum": list(values)},
        "uuid": lambda _: {"format": "uuid"},
        "uri": lambda _: {"format": "uri"},
        "email": lambda _: {"format": "email"},
    },
    "int32": NUMBER,
    "uint32": NUMBER,
    "double": NUMBER,
    # A string in JSON, so only the sign can be said, and a power of ten as the largest.
    "int64": {
        "gte": lambda least: {"pattern": "^[0-9]{1,19}$"} if least == 0 else unknown(f"int64.gte = {least}"),
        "lte": lambda most: {"allOf": [{"pattern": up_to(most)}]},
    },
    "repeated": {
        "min_items": lambda least: {"minItems": least},
        "max_items": lambda most: {"maxItems": most},
        "unique": lambda unique: {"uniqueItems": unique},
        "items": lambda rules: {"items": keywords(rules)},
    },
    "map": {
        "min_pairs": lambda least: {"minProperties": least},
        "max_pairs": lambda most: {"maxProperties": most},
        "keys": lambda rules: {"propertyNames": keywords(rules)},
        "values": lambda rules: {"additionalProperties": keywords(rules)},
    },
}
EMPTY = re.compile(r"this != ''")
BYTES = re.compile(r"bytes\(this\)\.size\(\) <= (\d+)")
"""A limit in bytes. JSON Schema counts characters, of which there are never more."""


def up_to(most: int) -> str:
    """What matches the digits of numbers from 0 to a power of ten."""
    zeros = len(str(most)) - 1
    return f"^([0-9]{{1,{zeros}}}|10{{{zeros}}})$" if most == 10**zeros else str(unknown(f"int64.lte = {most}"))


def rules_of(descriptor: FieldDescriptor) -> FieldRules:
    rules: FieldRules = descriptor.GetOptions().Extensions[field]
    return rules


def keywords(rules: FieldRules) -> Keywords:
    """What JSON Schema can say of the rules, merged into the schema of the field by the caller."""
    said: Keywords = {}
    for kind, value in rules.ListFields():
        if kind.name == "cel":
            for rule in value:
                said |= of_expression(rule.expression)
        elif kind.name != "required":
            for word, operand in value.ListFields():
                know = WORDS.get(kind.name, {}).get(word.name) or unknown(f"{kind.name}.{word.name}")
                said |= know(operand)
    return said


def of_expression(expression: str) -> Keywords:
    """An expression that is not one of ours stands in the description alone."""
    if EMPTY.fullmatch(expression):
        return {"minLength": 1}
    if limit := BYTES.fullmatch(expression):
        return {"maxLength": int(limit[1])}
    return {}


def needs_value(descriptor: FieldDescriptor) -> bool:
    """A request without this field is refused."""
    rules = rules_of(descriptor)
    if rules.required or descriptor.has_presence:
        return rules.required
    said = keywords(rules)
    return (
        bool(said.get("minLength") or said.get("minItems") or said.get("minProperties"))
        or said.get("format") in ("uuid", "uri", "email")
        or not matches(said.get("pattern", ""), str(descriptor.default_value))
        or descriptor.default_value not in said.get("enum", [descriptor.default_value])
    )


def matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def unknown(rule: str) -> Any:
    sys.exit(f"The rule {rule} has no JSON Schema yet: teach it to proto/surfaces/rules.py.")
