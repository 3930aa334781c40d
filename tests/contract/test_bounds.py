"""Money that people name is bounded on both sides, so that no sum of it leaves the integers it is kept in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.contract.requests import services

MOST_MICROUSD = 10**15
MOST_PRICE = 10**12
"""A dollar a token, in micro-USD per million: what the providers file allows too."""
PRICE = "soma.router.v1.ModelPrice"


def money(message: Descriptor, seen: frozenset[str] = frozenset()) -> Iterator[FieldDescriptor]:
    """The amounts in a request that are the caller's to name."""
    for field in message.fields:
        if field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            continue
        if field.name.endswith("_microusd") or message.full_name == PRICE:
            yield field
        inner = field.message_type
        if inner is not None and inner.full_name not in seen:
            yield from money(inner, seen | {inner.full_name})


NAMED = {
    field.full_name: field
    for service in services()
    for method in service.methods
    for field in money(method.input_type)
}  # fmt: skip


def test_all_that_names_money_is_found() -> None:
    assert {"soma.router.v1.ModelPrice.input", "soma.router.v1.Key.budget_microusd"} <= NAMED.keys()
    assert {"soma.router.v1.Policy.max_cost_microusd", "soma.router.v1.Hints.max_cost_microusd"} <= NAMED.keys()


@pytest.mark.parametrize("name", sorted(NAMED))
def test_money_in_a_request_is_neither_negative_nor_absurd(name: str) -> None:
    rules = NAMED[name].GetOptions().Extensions[validate_pb2.field].int64
    assert rules.HasField("gte")
    assert rules.gte == 0
    assert rules.lte == (MOST_PRICE if name.startswith(PRICE) else MOST_MICROUSD)
