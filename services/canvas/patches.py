"""A canvas as a JSON document, and its changes as JSON Patches (RFC 6902). Pure.

The document is {"panes": {"<UUID>": Pane}, "layout": Layout}, each as it is in REST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from soma.canvas.v1.canvas_pb2 import Layout, Pane, PatchOperation

MOST_BYTES = 512 * 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a watch has shown of a pane: all but the text, of which the hash will do."""

    fields: dict[str, Any]
    text: bytes


def shown(pane: Pane) -> Shown:
    fields = as_json(pane)
    return Shown(fields, hashlib.sha256(fields.pop("text").encode()).digest())


def whole(layout: Layout) -> PatchOperation:
    """A document without panes, in place of whatever there was."""
    return operation("replace", "", {"panes": {}, "layout": as_json(layout)})


def arranged(layout: Layout) -> PatchOperation:
    return operation("replace", "/layout", as_json(layout))


def changed(id: UUID, before: Shown | None, now: Shown, text: str) -> list[PatchOperation]:
    """The pane with its text, or the fields that have changed since it was shown. A changed text is sent whole."""
    if before is None:
        return [operation("add", path(id), now.fields | {"text": text})]
    new = {name: value for name, value in now.fields.items() if value != before.fields.get(name)}
    if now.text != before.text:
        new["text"] = text
    return [operation("replace", f"{path(id)}/{name}", value) for name, value in sorted(new.items())]


def removed(id: UUID, before: Shown | None) -> list[PatchOperation]:
    """One that was not shown by this watch may still be known from an earlier one: it is there after an `add`."""
    first = [] if before else [operation("add", path(id), {})]
    return [*first, PatchOperation(op="remove", path=path(id))]


def parts(sizes: Sequence[tuple[T, int]]) -> Iterator[list[T]]:
    """What goes into one message each, of things of so many bytes."""
    part: list[T] = []
    total = 0
    for thing, size in sizes:
        if part and total + size > MOST_BYTES:
            yield part
            part, total = [], 0
        part.append(thing)
        total += size
    if part:
        yield part


def path(id: UUID) -> str:
    return f"/panes/{id}"


def operation(op: str, path: str, value: Any) -> PatchOperation:
    return PatchOperation(op=op, path=path, value=ParseDict(value, Value()))


def as_json(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=True)
    return fields
