"""Each topic has its event and each event its schema, which lets a whole one pass and refuses any broken rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
from buf.validate import validate_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict

from services.common.generated import GENERATED
from services.common.schemas import to_json, validator
from soma.common.v1.topic_pb2 import topic
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.contract.belongings import belongings
from tests.contract.requests import messages
from tests.house import House

TOPICS = {
    "agent.messages", "agent.memory", "agent.audit", "agent.routing", "agent.tool", "somastack.delegation",
    "mode.changed", "enterprise.mode.changed",
}  # fmt: skip
EVENTS = [message for message in messages() if message.GetOptions().Extensions[topic]]
Body = dict[str, Any]


def name(value: object) -> str:
    return value.name if isinstance(value, Descriptor) else str(value)


def test_every_topic_has_its_event_and_every_event_its_schema() -> None:
    assert sorted(message.GetOptions().Extensions[topic] for message in EVENTS) == sorted(TOPICS)
    assert {file.stem for file in (GENERATED / "schemas").glob("*.json")} == {message.full_name for message in EVENTS}


@pytest.mark.parametrize("message", EVENTS, ids=name)
def test_a_whole_event_passes_and_so_does_the_least_one(message: Descriptor) -> None:
    for body in (whole(message), least(message)):
        validator(message.full_name).validate(body)
        made = ParseDict(body, message_factory.GetMessageClass(message)())
        assert json.loads(to_json(made)) == body, "an event is written with the fields that it was given"


@pytest.mark.parametrize("message", EVENTS, ids=name)
def test_an_event_with_any_rule_broken_is_refused(message: Descriptor) -> None:
    faults = list(broken(message))
    assert len(faults) > 2 * len(message.fields)
    for fault, body in faults:
        assert not validator(message.full_name).is_valid(body), fault


def whole(message: Descriptor) -> Body:
    return {field.json_name: good(field) for field in message.fields}


def least(message: Descriptor) -> Body:
    return {field.json_name: good(field) for field in message.fields if not field.has_presence}


def good(field: FieldDescriptor) -> object:
    """A value that its rules let pass."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.type != FieldDescriptor.TYPE_STRING:
        numbers = {FieldDescriptor.TYPE_INT64: "7", FieldDescriptor.TYPE_DOUBLE: 0.5, FieldDescriptor.TYPE_BOOL: True}
        return numbers.get(field.type, rules.uint32.const or 7)
    if allowed := list(getattr(rules.string, "in")):
        return allowed[-1]
    if rules.string.uuid:
        return str(uuid4())
    sealed = r"^s1\.p_[a-z2-7]{24}\.[A-Za-z0-9_-]+$"
    known = {"^[a-z][a-z0-9_]{1,39}$": "acme", "^[0-9a-f]{64}$": "0" * 64, sealed: f"s1.p_{'a' * 24}.AAAA"}
    return known[rules.string.pattern] if rules.string.pattern else "x" * max(1, rules.string.min_len)


def broken(message: Descriptor) -> Iterator[tuple[str, Body]]:
    """The whole event with one fault each: what is wrong, and the body."""
    body = whole(message)
    yield "a field that no schema names", body | {"more": "x"}
    for field in message.fields:
        for value in bad(field):
            yield f"{field.json_name} = {value!r}", body | {field.json_name: value}
        if not field.has_presence:
            yield f"no {field.json_name}", {key: kept for key, kept in body.items() if key != field.json_name}


def bad(field: FieldDescriptor) -> Iterator[object]:
    """Values of the wrong type, then one for each rule."""
    yield from ([], None)
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.type == FieldDescriptor.TYPE_STRING:
        yield 7
        if rules.string.min_len:
            yield "x" * (rules.string.min_len - 1)
        if rules.string.uuid or rules.string.pattern or getattr(rules.string, "in"):
            yield "Ä no such thing"
    elif field.type == FieldDescriptor.TYPE_INT64:
        yield from (7, "seven", "1.5", "1" * 20)
    elif field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_INT32):
        yield from ("7", 1.5, 2**32, -(2**31) - 1)
        if rules.uint32.HasField("const"):
            yield rules.uint32.const + 1
    else:
        yield "seven"


def test_an_event_that_breaks_its_schema_does_not_become_json() -> None:
    with pytest.raises(ValueError, match="breaks its schema"):
        to_json(MessageEvent(type="turn.eaten"))


@pytest.mark.asyncio(loop_scope="session")
async def test_what_rooms_write_down_stands_under_its_contracts_topic(house: House) -> None:
    await belongings(house.person())
    rows = await house.rows("SELECT topic, type, body::text AS body FROM soma.told")
    assert {"agent.messages", "agent.routing"} <= {row["topic"] for row in rows}
    by_topic = {message.GetOptions().Extensions[topic]: message for message in EVENTS}
    for row in rows:
        body = json.loads(row["body"])
        validator(by_topic[row["topic"]].full_name).validate(body)
        assert row["type"] == body["type"]


def test_the_schemas_are_json_schemas() -> None:
    for file in (GENERATED / "schemas").glob("*.json"):
        jsonschema_rs.meta.validate(json.loads(file.read_text()))
