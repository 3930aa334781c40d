"""A request for any method, made from the descriptors alone: the least that its rules ask for, about a resource."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

DESCRIPTORS = Path(__file__).resolve().parents[2] / "gen/soma.binpb"
SET_ONCE = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IMMUTABLE}
COLLECTION = re.compile(r"(\w+)/\*")
THERE = {
    "soma.router.v1.GetCompletionModelRequest.model": "soma/auto",
    "soma.router.v1.Feedback.thumb": "up",
    "soma.router.v1.Budget.scope": "task",
    "soma.router.v1.Budget.window": "total",
}
EACH_ITS_OWN = {"soma.router.v1.Budget.of"}
"""Of which no two may be alike."""
NUMBERED = {"versions": "1", "events": "123456789", "policies": "123456789"}
"""Ids of a collection that counts: such as nothing has that nobody has made."""


@cache
def files() -> tuple[FileDescriptor, ...]:
    """Every file of the contract."""
    names = [f.name for f in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file if f.name.startswith("soma/")]
    modules = [import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2") for name in names]
    return tuple(module.DESCRIPTOR for module in modules)


def services() -> list[ServiceDescriptor]:
    return [service for file in files() for service in file.services_by_name.values()]


def messages() -> list[Descriptor]:
    return [message for file in files() for message in file.message_types_by_name.values()]


def method_of(path: str) -> MethodDescriptor:
    """That of "/package.Service/Method"."""
    files()
    service, _, name = path.lstrip("/").partition("/")
    return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]


def sample(message: Any) -> Message:
    """The least that its rules ask for."""
    made = message_factory.GetMessageClass(message)()
    for field in message.fields:
        fill(made, field)
    if message.full_name == "soma.router.v1.Budget":
        made.limit.requests = 1  # type: ignore[attr-defined]  # what a new one needs, and no rule says
    return made


def fill(made: Message, field: FieldDescriptor) -> None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    kind = field.message_type
    if kind is not None and kind.full_name == "google.protobuf.FieldMask":
        getattr(made, field.name).paths.append(changeable(made.DESCRIPTOR))
    elif field.is_repeated and rules.repeated.min_items:
        getattr(made, field.name).add().CopyFrom(sample(kind))
    elif kind is not None and rules.required:
        getattr(made, field.name).CopyFrom(sample(kind))
    elif field.type == FieldDescriptor.TYPE_STRING and not field.has_presence and not field.is_repeated:
        setattr(made, field.name, word(field, rules))


def word(field: FieldDescriptor, rules: Any) -> str:
    """The shortest that the rules let pass; of what is looked up by any name, one that there is."""
    if field.full_name in THERE:
        return THERE[field.full_name]
    if field.full_name in EACH_ITS_OWN:
        return str(uuid4())
    allowed: list[str] = list(getattr(rules.string, "in"))
    if allowed:
        return min(allowed, key=len)
    return "x" if rules.string.min_len or any("!= ''" in rule.expression for rule in rules.cel) else ""


def changeable(request: Any) -> str:
    """A field that an update may name."""
    resource = next(
        f.message_type for f in request.fields if f.message_type and f.message_type.file.package[:4] == "soma"
    )
    free = (
        f for f in resource.fields if not SET_ONCE & set(f.GetOptions().Extensions[field_behavior_pb2.field_behavior])
    )
    name: str = next(free).name
    return name


def place_of(method: MethodDescriptor) -> tuple[str, str] | None:
    """Which field of the request names a resource, and what its name looks like: ("pane.name", "conversations/*/…").

    A method without a path of its own is asked as its service's others are. None when it is about nothing that is.
    """
    if own := list(places_in(method)):
        return own[0]
    others = {place for other in method.containing_service.methods for place in places_in(other)}
    fitting = [place for place in sorted(others, key=lambda p: (len(p[1]), p)) if has(method.input_type, place[0])]
    if fitting:
        return fitting[0]
    if has(method.input_type, "feedback.decision"):
        return "feedback.decision", "decisions/*"
    return ("conversation", "conversations/*") if "conversation" in method.input_type.fields_by_name else None


def places_in(method: MethodDescriptor) -> Iterator[tuple[str, str]]:
    http = method.GetOptions().Extensions[annotations_pb2.http]
    template = getattr(http, http.WhichOneof("pattern") or "get")
    yield from re.findall(r"\{([\w.]+)=([^}]*[^*}][^}]*)\}", template)


def has(message: Descriptor, path: str) -> bool:
    first, _, rest = path.partition(".")
    field = message.fields_by_name.get(first)
    return field is not None and (not rest or (field.message_type is not None and has(field.message_type, rest)))


def about(request: Message, path: str, name: str) -> Message:
    """The request, with the name in its place."""
    *inside, last = path.split(".")
    place = request
    for part in inside:
        place = getattr(place, part)
    setattr(place, last, name)
    return request


def name_of(template: str, ids: Mapping[str, str]) -> str:
    """A resource's name from the ids of what it lies in, by collection."""
    for collection in COLLECTION.findall(template):
        assert collection in ids, f"tests/contract/belongings.py makes no {collection} yet: say there how."
    return COLLECTION.sub(lambda found: f"{found[1]}/{ids[found[1]]}", template)


def nobodys(template: str) -> dict[str, str]:
    """Ids that nothing has."""
    return {collection: str(uuid4()) for collection in COLLECTION.findall(template)} | NUMBERED
