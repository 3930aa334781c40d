"""What the contract lets the edge call, read from the descriptor set: methods and their rooms, verbs and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from soma.common.v1 import access_pb2

EDGE = "edge"
SEGMENT = "[^/]+"


@dataclass(frozen=True, slots=True)
class Method:
    """One method that the edge may call."""

    service: str
    name: str
    room: str
    streams: bool
    public: bool
    """Asks for no person's token."""
    api_keys: bool = False
    """An API key may stand for the token."""
    is_openai: bool = False
    """Its bodies are OpenAI's, as bytes; so are its refusals."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP verb and path of one method."""

    method: Method
    verb: str
    path: str
    """A regular expression for the whole path."""

    @property
    def exact_path(self) -> str:
        """The path itself where it is always the same, which is found soonest; else empty."""
        return "" if SEGMENT in self.path or ".+" in self.path else self.path.replace("\\", "")


def methods(descriptor_set: bytes) -> list[Method]:
    """Every method that the edge may call."""
    return [method for method, _ in _called(descriptor_set)]


def bindings(descriptor_set: bytes) -> list[Binding]:
    """Every binding that the edge may call; more particular paths first."""
    found = [binding for method, rule in _called(descriptor_set) for binding in _bindings_of(method, rule)]
    return sorted(found, key=lambda binding: (binding.path.count(SEGMENT), -len(binding.path)))


def workloads(descriptor_set: bytes) -> set[str]:
    """Every service account that has a right by the contract, or serves a part of it."""
    files = FileDescriptorSet.FromString(descriptor_set).file
    methods = [method for file in files for service in file.service for method in service.method]
    named = {name for method in methods for name in method.options.Extensions[access_pb2.access].workloads}
    return named | {file.package.split(".")[1] for file in files if file.package.startswith("soma.")}


def services_of(bound: Iterable[Binding]) -> list[str]:
    return sorted({binding.method.service for binding in bound})


def _called(descriptor_set: bytes) -> Iterator[tuple[Method, http_pb2.HttpRule]]:
    for file in FileDescriptorSet.FromString(descriptor_set).file:
        for service in file.service:
            for method in service.method:
                access = method.options.Extensions[access_pb2.access]
                if EDGE in access.workloads:
                    http = method.options.Extensions[annotations_pb2.http]
                    yield (
                        Method(
                            f"{file.package}.{service.name}", method.name, file.package.split(".")[1],
                            method.server_streaming, access.public, access.api_keys, bool(http.response_body),
                        ),
                        http,
                    )  # fmt: skip


def _bindings_of(method: Method, http: http_pb2.HttpRule) -> Iterator[Binding]:
    for rule in (http, *http.additional_bindings):
        verb = rule.WhichOneof("pattern")
        if verb and verb != "custom":
            yield Binding(method, verb.upper(), path_pattern(rule, verb))


def path_pattern(rule: http_pb2.HttpRule, verb: str) -> str:
    """A path template as a regular expression: `/v1/{name=notes/*}:watch` is `/v1/notes/[^/]+:watch`."""
    template = re.sub(r"\{[^={}]+=([^{}]+)\}|\{[^{}]+\}", lambda found: found[1] or "*", getattr(rule, verb))
    return ".+".join(SEGMENT.join(map(re.escape, part.split("*"))) for part in template.split("**"))
