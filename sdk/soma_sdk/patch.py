"""JSON Patch as canvas sends it. Pure: documents are never changed, the new one shares what stayed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from betterproto import which_one_of
from betterproto.lib.google.protobuf import ListValue, Struct, Value

from soma_api.soma.canvas.v1 import PatchOperation
from soma_sdk.errors import Unexpected

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Change: TypeAlias = tuple[str, Json]
"""What is done, and the value that it is done with."""


class Misfit(Unexpected):
    """A patch for another document than this."""

    def __init__(self, message: str) -> None:
        super().__init__("UNEXPECTED", f"A change does not fit what is known of the canvas. {message}")


def patched(document: Json, operations: Iterable[PatchOperation]) -> Json:
    """The document after the operations. Raises Misfit when one names what is not there."""
    for operation in operations:
        document = at(document, pointer(operation.path), change_of(operation))
    return document


def pointer(path: str) -> list[str]:
    """The steps of a JSON Pointer (RFC 6901)."""
    if not path:
        return []
    if not path.startswith("/"):
        raise Misfit(f"{path!r} is no JSON Pointer.")
    return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]


def change_of(operation: PatchOperation) -> Change:
    if operation.op not in ("add", "replace", "remove"):
        raise Misfit(f"There is no operation {operation.op!r}.")
    return operation.op, None if operation.op == "remove" else plain(operation.value)


def at(document: Json, steps: list[str], change: Change) -> Json:
    """The document with the change made where the steps lead."""
    if not steps:
        return change[1]
    step, rest = steps[0], steps[1:]
    if isinstance(document, dict):
        return in_object(document, step, rest, change)
    if isinstance(document, list):
        return in_array(document, step, rest, change)
    raise Misfit(f"There is nothing below {step!r}.")


def in_object(document: dict[str, Json], key: str, rest: list[str], change: Change) -> Json:
    if key not in document and (rest or change[0] != "add"):
        raise Misfit(f"There is no {key!r}.")
    if rest:
        return document | {key: at(document[key], rest, change)}
    if change[0] == "remove":
        return {k: v for k, v in document.items() if k != key}
    return document | {key: change[1]}


def in_array(document: list[Json], step: str, rest: list[str], change: Change) -> Json:
    op, value = change
    adds = op == "add" and not rest
    index = len(document) if step == "-" and adds else int(step) if step.isdecimal() else -1
    if not 0 <= index < len(document) + adds:
        raise Misfit(f"There is no element {step!r}.")
    before, after = document[:index], document[index + (not adds) :]
    if rest:
        return [*before, at(document[index], rest, change), *after]
    return [*before, *after] if op == "remove" else [*before, value, *after]


def plain(value: Value) -> Json:
    """A google.protobuf.Value as Python's own; whole numbers as int."""
    _, held = which_one_of(value, "kind")
    if isinstance(held, Struct):
        return {key: plain(inner) for key, inner in held.fields.items()}
    if isinstance(held, ListValue):
        return [plain(inner) for inner in held.values]
    if isinstance(held, float) and held.is_integer():
        return int(held)
    if isinstance(held, str | bool | float):
        return held
    return None
