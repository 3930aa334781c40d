"""The short way of an event to its canonical bytes gives what the long way gives."""

from __future__ import annotations

import random
from typing import Any

import pytest
import rfc8785
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from services.common.schemas import EXACT, body_of, canonical, is_plain
from soma.events.v1alpha1 import (
    audit_pb2,
    delegation_pb2,
    memory_pb2,
    message_pb2,
    mode_pb2,
    routing_pb2,
    tool_pb2,
)

EVENTS = [
    message
    for module in (audit_pb2, delegation_pb2, memory_pb2, message_pb2, mode_pb2, routing_pb2, tool_pb2)
    for message in vars(module).values()
    if hasattr(message, "DESCRIPTOR") and hasattr(message, "FromString")
]
TEXTS = ["", "a", "\x00\x01\x1f\x7f", '"\\/\b\f\n\r\t', "é\u2028\u2029", "\U0001f980", "\ufeff", "</script>"]


def drawn(message: type[Any], dice: random.Random) -> Any:
    """One with some of its fields set, to values at the edges."""
    event = message()
    for field in message.DESCRIPTOR.fields:
        if dice.random() < 0.3:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(event, field.name, "".join(dice.choices(TEXTS, k=3)))
        elif field.type == FieldDescriptor.TYPE_BOOL:
            setattr(event, field.name, dice.random() < 0.5)
        elif field.type == FieldDescriptor.TYPE_DOUBLE:
            setattr(event, field.name, dice.choice([0.5, 1.0, 1e21, 1e-7]))
        elif field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64):
            setattr(event, field.name, dice.choice([0, 1, 2**60]))
        else:
            setattr(event, field.name, dice.choice([0, 1, 2**31 - 1]))
    return event


@pytest.mark.parametrize("message", EVENTS, ids=lambda message: message.DESCRIPTOR.name)
def test_an_event_becomes_the_same_bytes_by_the_short_way_as_by_the_long_one(message: type[Any]) -> None:
    dice = random.Random(7)
    for _ in range(200):
        event = drawn(message, dice)
        long = MessageToDict(event, always_print_fields_with_no_presence=True)
        assert body_of(event) == long
        assert canonical(body_of(event)) == rfc8785.dumps(long)


@pytest.mark.parametrize(
    "body", [{"n": EXACT}, {"n": -EXACT}, {"t": "".join(TEXTS)}, {"b": True, "a": 0}, {}, {"n": 1.5}]
)
def test_what_is_plain_is_canonical_by_the_short_way(body: dict[str, Any]) -> None:
    assert is_plain(body)
    assert canonical(body) == rfc8785.dumps(body)


def test_common_fractions_are_written_as_they_are_everywhere() -> None:
    dice = random.Random(7)
    for _ in range(20_000):
        number = dice.choice([1, -1]) * dice.random() * 10 ** dice.uniform(-4, 9)
        body = {"n": number if dice.random() < 0.5 else round(number, dice.randrange(9))}
        assert canonical(body) == rfc8785.dumps(body)


@pytest.mark.parametrize(
    "body", [{"n": 1.0}, {"n": 1e-7}, {"n": 1e21}, {"é": 1}, {"o": {"b": 1, "a": 2}}, {"l": [1]}, [], "x", {"n": None}]
)
def test_what_is_not_goes_the_long_way(body: Any) -> None:
    assert not is_plain(body)
    assert canonical(body) == rfc8785.dumps(body)


@pytest.mark.parametrize("body", [{"n": EXACT + 1}, {"n": -EXACT - 1}, {"t": "\ud800"}, {"n": float("nan")}])
def test_what_json_cannot_say_everywhere_alike_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever way
        canonical(body)
