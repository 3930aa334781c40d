"""JSON Patch, and google.protobuf.Value as betterproto reads it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from betterproto.lib.google.protobuf import Value
from google.protobuf import json_format, struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as some

from soma_api.soma.canvas.v1 import PatchOperation
from soma_sdk.patch import Json, Misfit, patched, plain, pointer

BEFORE: dict[str, Json] = {
    "panes": {"a": {"text": "x", "n": 1}, "b/~c": {"text": "y"}},
    "layout": {"panes": ["a", "b"]},
}


def value(json: Any) -> Value:
    """As it comes off the wire."""
    return Value().parse(json_format.ParseDict(json, struct_pb2.Value()).SerializeToString())


def operation(op: str, path: str, json: Any = None) -> PatchOperation:
    return PatchOperation(op=op, path=path) if op == "remove" else PatchOperation(op=op, path=path, value=value(json))


@pytest.mark.parametrize(
    ("op", "path", "json", "where", "after"),
    [
        ("replace", "/panes/a/text", "z", ("panes", "a"), {"text": "z", "n": 1}),
        ("add", "/panes/a/title", "t", ("panes", "a"), {"text": "x", "n": 1, "title": "t"}),
        ("add", "/panes/a/text", "over", ("panes", "a"), {"text": "over", "n": 1}),
        ("remove", "/panes/a/n", None, ("panes", "a"), {"text": "x"}),
        ("remove", "/panes/b~1~0c", None, ("panes",), {"a": {"text": "x", "n": 1}}),
        ("replace", "/panes/b~1~0c/text", None, ("panes", "b/~c"), {"text": None}),
        ("add", "/layout/panes/-", "c", ("layout", "panes"), ["a", "b", "c"]),
        ("add", "/layout/panes/0", "c", ("layout", "panes"), ["c", "a", "b"]),
        ("add", "/layout/panes/2", "c", ("layout", "panes"), ["a", "b", "c"]),
        ("replace", "/layout/panes/1", "c", ("layout", "panes"), ["a", "c"]),
        ("remove", "/layout/panes/0", None, ("layout", "panes"), ["b"]),
        ("replace", "", {"panes": {}}, (), {"panes": {}}),
        ("add", "", {"panes": {}}, (), {"panes": {}}),
    ],
)
def test_an_operation_changes_what_it_names_and_nothing_that_was_given(
    op: str, path: str, json: Any, where: tuple[str, ...], after: Json
) -> None:
    kept = deepcopy(BEFORE)

    found: Any = patched(BEFORE, [operation(op, path, json)])

    for step in where:
        found = found[step]
    assert found == after
    assert kept == BEFORE


@pytest.mark.parametrize(
    ("op", "path"),
    [
        ("replace", "/panes/nobody"),
        ("remove", "/panes/nobody"),
        ("add", "/panes/nobody/text"),
        ("replace", "/layout/panes/2"),
        ("add", "/layout/panes/3"),
        ("remove", "/layout/panes/-"),
        ("replace", "/layout/panes/x"),
        ("add", "/panes/a/text/deeper"),
        ("add", "panes"),
        ("move", "/panes/a"),
    ],
)
def test_an_operation_on_what_is_not_there_fits_no_document(op: str, path: str) -> None:
    with pytest.raises(Misfit):
        patched(BEFORE, [operation(op, path, "z")])


def test_operations_are_made_in_order_and_what_stayed_is_shared() -> None:
    after: Any = patched(BEFORE, [operation("add", "/panes/c", {}), operation("add", "/panes/c/text", "new")])

    assert after["panes"]["c"] == {"text": "new"}
    assert after["layout"] is BEFORE["layout"]


def test_a_pointer_is_read_as_rfc_6901_says() -> None:
    assert pointer("") == []
    assert pointer("/") == [""]
    assert pointer("/a~1b/m~0n/~01") == ["a/b", "m~n", "~1"]


JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**53), 2**53)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(JSON)
def test_a_value_is_read_as_it_was_written(json: Any) -> None:
    assert plain(value(json)) == json
