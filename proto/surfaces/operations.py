"""One operation of OpenAPI: a method under one of its paths, with what it takes, what it gives and how it refuses."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from proto.surfaces.contract import Binding, Method
from proto.surfaces.reasons import Reason, reasons_of
from proto.surfaces.refused import OPENAI_ERROR, STATUS, answers
from proto.surfaces.rules import needs_value
from proto.surfaces.shapes import WELL_KNOWN, Shapes

SEGMENT = "^[^/:]+$"
SEGMENTS = r"^[a-zA-Z0-9_@][a-zA-Z0-9_@.:-]*(/[a-zA-Z0-9_@][a-zA-Z0-9_@.:-]*)*$"
"""Such as models have that are named after their owners."""
REFUSED, OPENAI_REFUSED = "#/components/responses/Refused", "#/components/responses/OpenAIRefused"
EVENTS = "text/event-stream"


def operation(method: Method, binding: Binding, shapes: Shapes, known: Mapping[str, Reason]) -> dict[str, Any]:
    service = method.descriptor.containing_service
    body = body_of(method, binding, shapes)
    reasons = reasons_of(method, known, by_body=bool(body))
    form, other = (OPENAI_ERROR, OPENAI_REFUSED) if method.is_openai else (STATUS, REFUSED)
    return (
        {"operationId": operation_id(method), "tags": [service.name], "summary": in_words(method.descriptor.name)}
        | {"description": shapes.text(method.descriptor.full_name)}
        | ({"security": []} if method.rule.public else {"x-roles": list(method.rule.roles)})
        | ({"x-audit": method.rule.audit} if method.rule.audit else {})
        | {"parameters": [*path_parameters(binding), *query_parameters(method, binding, shapes)]}
        | ({"requestBody": body} if body else {})
        | {"responses": {"200": success(method, shapes), **answers(reasons, form), "default": {"$ref": other}}}
    )


def alias(
    method: Method, number: int, binding: Binding, shapes: Shapes, known: Mapping[str, Reason]
) -> Mapping[str, Any]:
    """The same under another path."""
    main = method.bindings[0]
    return operation(method, binding, shapes, known) | {
        "operationId": f"{operation_id(method)}_{number}",
        "x-alias-of": operation_id(method),
        "summary": f"{in_words(method.descriptor.name)} (another path)",
        "description": f"The same as `{main.verb} {main.path}`.",
    }


def operation_id(method: Method) -> str:
    return f"{method.descriptor.containing_service.name}_{method.descriptor.name}"


def path_parameters(binding: Binding) -> Iterator[Mapping[str, Any]]:
    for collection, name in re.findall(r"(\w+)/\{(\w+)\}", binding.path):
        yield {
            "name": name, "in": "path", "required": True,
            "description": f"What stands behind `{collection}/` in the resource's name.",
            "schema": {"type": "string", "pattern": SEGMENTS if name in binding.long_names else SEGMENT},
        }  # fmt: skip


def query_parameters(method: Method, binding: Binding, shapes: Shapes) -> Iterator[Mapping[str, Any]]:
    """What stands neither in the path nor in the body."""
    if binding.body == "*":
        return
    elsewhere = {binding.body, *(name.partition(".")[0] for name in binding.fields)}
    for field in method.request.fields:
        if field.name not in elsewhere:
            check_flat(field)
            schema = shapes.of_field(field, "request") | (mask(field, shapes) if is_mask(field) else {})
            yield {
                "name": field.json_name, "in": "query", "required": needs_value(field) or is_mask(field),
                "description": schema.pop("description"), "schema": schema,
            }  # fmt: skip


def check_flat(field: FieldDescriptor) -> None:
    if field.message_type and WELL_KNOWN.get(field.message_type.full_name, {}).get("type") != "string":
        sys.exit(f"{field.full_name}: a message has no place in a query. Bind it to the body.")


def is_mask(field: FieldDescriptor) -> bool:
    """An update without one is refused."""
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"


def mask(field: FieldDescriptor, shapes: Shapes) -> dict[str, Any]:
    """What its comment quotes, one or more: title,text."""
    paths = "|".join(re.findall(r'"(\w+)"', shapes.text(field.full_name)))
    return {"pattern": f"^({paths})(,({paths}))*$"} if paths else {}


def body_of(method: Method, binding: Binding, shapes: Shapes) -> Mapping[str, Any]:
    """The request's JSON. What stands in the path is refused in the body, so it has no place in its schema."""
    if not binding.body:
        return {}
    whole = binding.body == "*"
    part = None if whole else method.request.fields_by_name[binding.body]
    message = part.message_type if part else method.request
    if not message:
        sys.exit(f"{method.descriptor.full_name}: its body is no message.")
    inside = [name if whole else name.removeprefix(f"{binding.body}.") for name in binding.fields]
    schema = shapes.request(message, without=inside)
    needed = any(map(needs_value, [part] if part else [f for f in message.fields if f.name not in inside]))
    shown = {} if method.example is None else {"example": method.example}
    return {"required": needed, "content": {"application/json": {"schema": schema} | shown}}


def success(method: Method, shapes: Shapes) -> Mapping[str, Any]:
    """A stream's schema is that of its text; what its events are stands beside it."""
    message = method.descriptor.output_type
    if method.is_openai:
        kinds = {"application/json": {"schema": {"type": "object"}}}
        streamed = {EVENTS: {"schema": {"type": "string"}}} if method.descriptor.server_streaming else {}
        return {"description": shapes.text(message.full_name), "content": kinds | streamed}
    event = shapes.answer(message)
    if not method.descriptor.server_streaming:
        return {"description": shapes.text(message.full_name), "content": {"application/json": {"schema": event}}}
    says = [shapes.text(oneof.full_name) for oneof in message.oneofs if not oneof.name.startswith("_")]
    return {
        "description": " ".join([f"A stream of {message.name}.", *says]),
        "content": {EVENTS: {"schema": {"type": "string"}, "x-event-schema": event}},
    }


def in_words(name: str) -> str:
    """ListPaneVersions: List pane versions."""
    first, *more = re.findall("[A-Z][a-z0-9]*", name)
    return " ".join([first, *(word.lower() for word in more)])
