"""The least that rules ask for, so that where a message is absent, one is put in which breaks no other rule."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.methods import Descriptor, FieldDescriptor, rules_of

WORDS = ("", "aa", "a")


def least(kind: Descriptor) -> Message:
    message = GetMessageClass(kind)()
    for field in kind.fields:
        rules = rules_of(field)
        if field.is_repeated or (field.has_presence and not rules.required):
            continue
        if field.message_type:
            getattr(message, field.name).CopyFrom(least(field.message_type))
        elif isinstance(field.default_value, str):
            setattr(message, field.name, word(rules.string))
    return message


def item(field: FieldDescriptor) -> Any:
    """One for a list."""
    return least(field.message_type) if field.message_type else word(rules_of(field).repeated.items.string)


def word(rules: Any) -> str:
    """Short text that the rules of a string let pass."""
    if choices := list(getattr(rules, "in")):
        return str(choices[0])
    if rules.pattern:
        return next(text for text in WORDS if re.fullmatch(rules.pattern, text))
    return "x" * int(rules.min_len)
