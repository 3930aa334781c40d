"""What the contract binds to HTTP, read from the descriptor set: verbs and paths, their methods and rooms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto

from soma.common.v1 import access_pb2

EDGE = "edge"
SEGMENT = "[^/]+"


@dataclass(frozen=True, slots=True)
class Binding:
    """One HTTP verb and path of one method."""

    service: str
    method: str
    room: str
    verb: str
    path: str
    """A regular expression for the whole path."""
    streams: bool
    public: bool
    """Asks for no person's token."""


def bindings(descriptor_set: bytes) -> list[Binding]:
    """Every binding that the edge may call; more particular paths first."""
    found = [
        binding
        for file in FileDescriptorSet.FromString(descriptor_set).file
        for service in file.service
        for method in service.method
        for binding in _bindings_of(file.package, service.name, method)
    ]
    return sorted(found, key=lambda binding: (binding.path.count(SEGMENT), -len(binding.path)))


def services_of(bound: Iterable[Binding]) -> list[str]:
    return sorted({binding.service for binding in bound})


def _bindings_of(package: str, service: str, method: MethodDescriptorProto) -> Iterator[Binding]:
    access = method.options.Extensions[access_pb2.access]
    http = method.options.Extensions[annotations_pb2.http]
    if EDGE not in access.workloads:
        return
    for rule in (http, *http.additional_bindings):
        verb = rule.WhichOneof("pattern")
        if verb and verb != "custom":
            yield Binding(
                f"{package}.{service}", method.name, package.split(".")[1], verb.upper(), path_pattern(rule, verb),
                method.server_streaming, access.public,
            )  # fmt: skip


def path_pattern(rule: http_pb2.HttpRule, verb: str) -> str:
    """A path template as a regular expression: `/v1/{name=notes/*}:watch` is `/v1/notes/[^/]+:watch`."""
    template = re.sub(r"\{[^={}]+=([^{}]+)\}|\{[^{}]+\}", lambda found: found[1] or "*", getattr(rule, verb))
    return ".+".join(SEGMENT.join(map(re.escape, part.split("*"))) for part in template.split("**"))
