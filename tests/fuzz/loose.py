"""What the edge's reader of JSON takes that the document does not tell of: it is kinder than that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemathesis.core import NotSet

NUMBERS = ("integer", "number")


def meant(case: Any) -> bool:
    """Whether a case that breaks the document does so for the edge too. To that, null is the same as absent, no body as
    an empty one, one thing, or lists in a list, as the list of all of them, and a number as the text of it."""
    if isinstance(case.body, NotSet):
        return False
    document = case.operation.schema.raw_schema
    lists, numbers = named(document, ("array",)), named(document, NUMBERS, "int64")
    return not any(
        value is None or (name in lists and is_loose_list(value)) or (name in numbers and is_number(value))
        for name, value in fields_in(case.body)
    )


def named(document: Any, types: tuple[str, ...], format: str = "") -> set[str]:
    """The names of all fields of these types, or of this format."""
    properties = (schema.get("properties", {}) for schema in document["components"]["schemas"].values())
    every = (item for one in properties for item in one.items())
    return {name for name, told in every if told.get("type") in types or (format and told.get("format") == format)}


def fields_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with the name under which it stands, however deep."""
    yield name, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from fields_in(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from fields_in(inner)


def is_loose_list(value: Any) -> bool:
    """Whether it is no list, or one with lists in it."""
    return any(isinstance(one, list) for one in value) if isinstance(value, list) else not isinstance(value, dict)


def is_number(value: Any) -> bool:
    """A number, or the text of one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)
