"""The contract as the surfaces read it: methods of the rooms that exist, their HTTP bindings, and what comments say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

from soma.common.v1.access_pb2 import Access, access
from soma.common.v1.example_pb2 import example

EDGE = "edge"
"""The workload that speaks HTTP: what it may not call has no path."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP verb and path of a method."""

    verb: str
    template: str
    """As written: /v1/{name=conversations/*/turns/*}:watch."""
    body: str
    """The request field that is the body; "*" for the whole request, empty for none."""

    @property
    def fields(self) -> list[str]:
        """The request fields that stand in the path: "name", "pane.name"."""
        return re.findall(r"\{([^={}]+)", self.template)

    @property
    def path(self) -> str:
        """With each * named after its collection: /v1/conversations/{conversation}/turns/{turn}:watch."""
        plain = re.sub(r"\{([^={}]+)=\*\*\}", r"{\1}", self.template)
        plain = re.sub(r"\{[^={}]+=([^{}]+)\}", r"\1", plain)
        return re.sub(r"(\w+)/\*", lambda found: f"{found[1]}/{{{singular(found[1])}}}", plain)

    @property
    def long_names(self) -> list[str]:
        """The fields in the path whose values may hold slashes."""
        return re.findall(r"\{([^={}]+)=\*\*\}", self.template)

    @property
    def collections(self) -> list[str]:
        """Those that the path names a resource of, from the outside in: ["conversations", "turns"]."""
        return re.findall(r"(\w+)/\*", self.template)


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC of a room that exists."""

    descriptor: MethodDescriptor
    rule: Access
    says: str
    """Its comment."""

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def room(self) -> str:
        return room_of(self.descriptor.full_name)

    @property
    def request(self) -> Descriptor:
        return self.descriptor.input_type

    @property
    def is_openai(self) -> bool:
        """Its bodies are OpenAI's, as bytes; so are its refusals, by HTTP."""
        return bool(self.descriptor.GetOptions().Extensions[annotations_pb2.http].response_body)

    @property
    def example(self) -> Any:
        """A body that can be sent as it stands; None where its rules tell one."""
        written: str = self.descriptor.GetOptions().Extensions[example]
        return json.loads(written) if written else None

    @property
    def bindings(self) -> list[Binding]:
        """The main one first. None when the edge may not call."""
        if EDGE not in self.rule.workloads:
            return []
        http = self.descriptor.GetOptions().Extensions[annotations_pb2.http]
        return [
            Binding(verb.upper(), getattr(rule, verb), rule.body)
            for rule in (http, *http.additional_bindings)
            if (verb := rule.WhichOneof("pattern"))
        ]


@dataclass(frozen=True)
class Contract:
    """What proto/ says, with its comments by full name."""

    files: FileDescriptorSet
    rooms: frozenset[str]

    @cached_property
    def methods(self) -> list[Method]:
        """Those of rooms that exist: services by name, their methods as written."""
        return [method for method in self.every_method if method.room in self.rooms]

    @cached_property
    def every_method(self) -> list[Method]:
        found = [
            Method(method, method.GetOptions().Extensions[access], self.comments[method.full_name])
            for module in self.modules
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        ]
        return sorted(found, key=lambda m: (m.descriptor.containing_service.full_name, m.descriptor.index))

    @cached_property
    def modules(self) -> list[Any]:
        """The generated module of each of our files."""
        ours = [file.name for file in self.files.file if file.package.startswith("soma.")]
        return [import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2") for name in sorted(ours)]

    @cached_property
    def comments(self) -> Mapping[str, str]:
        return {name: text for file in self.files.file for name, text in comments_of(file)}


def read_contract(descriptors: Path, services: Path) -> Contract:
    """`descriptors` is a descriptor set with source info; a room exists when `services` holds a program of its name."""
    rooms = frozenset(program.parent.name for program in services.glob("*/__main__.py"))
    return Contract(FileDescriptorSet.FromString(descriptors.read_bytes()), rooms)


def room_of(full_name: str) -> str:
    """soma.agent.v1.ChatService.Chat is the agent's."""
    return full_name.split(".")[1]


def singular(collection: str) -> str:
    return re.sub("ie$", "y", collection.removesuffix("s"))


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Each named thing of the file with the comment above it, lines joined to paragraphs."""
    said = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for path, name in names_of(file):
        paragraphs = re.split(r"\n\s*\n", said.get(path, ""))
        yield f"{file.package}.{name}", "\n\n".join(" ".join(text.split()) for text in paragraphs).strip()


Named = Iterator[tuple[tuple[int, ...], str]]


def names_of(file: FileDescriptorProto) -> Named:
    """Where each thing stands in the descriptor, as source info counts (field number, index, …), and its name."""
    for i, message in enumerate(file.message_type):
        yield from _of_message((4, i), message)
    for i, enum in enumerate(file.enum_type):
        yield from _of_enum((5, i), enum, "")
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"


def _of_message(path: tuple[int, ...], message: DescriptorProto, inside: str = "") -> Named:
    name = f"{inside}{message.name}"
    yield path, name
    for i, field in enumerate(message.field):
        yield (*path, 2, i), f"{name}.{field.name}"
    for i, oneof in enumerate(message.oneof_decl):
        yield (*path, 8, i), f"{name}.{oneof.name}"
    for i, nested in enumerate(message.nested_type):
        yield from _of_message((*path, 3, i), nested, f"{name}.")
    for i, enum in enumerate(message.enum_type):
        yield from _of_enum((*path, 4, i), enum, f"{name}.")


def _of_enum(path: tuple[int, ...], enum: EnumDescriptorProto, inside: str) -> Named:
    """A value is named after its enum here, which protobuf itself does not do."""
    yield path, f"{inside}{enum.name}"
    for i, value in enumerate(enum.value):
        yield (*path, 2, i), f"{inside}{enum.name}.{value.name}"
