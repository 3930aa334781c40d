"""Every method of every room that is here, as the descriptor set tells it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.common.access import Rule, rule_of

Descriptor: TypeAlias = Any
FieldDescriptor: TypeAlias = Any
"""Of either of protobuf's two implementations: the stubs know both, and no name for what they share."""

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\{([\w.]+)=([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Method:
    """One method, and what is needed to call it."""

    path: str
    room: str
    request: type[Message]
    answer: type[Message]
    streams: bool
    rule: Rule
    names: dict[str, str]
    """Which field holds a resource name of which form: {"name": "conversations/*"}."""

    def __str__(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def workload(self) -> str:
        return min(self.rule.workloads)

    @property
    def role(self) -> str:
        return "member" if "member" in self.rule.roles else min(self.rule.roles, default="member")

    @property
    def reads(self) -> bool:
        return not self.rule.action

    @property
    def governs(self) -> bool:
        """It sets, or shows, what all of a tenant may do."""
        return "operator" in self.rule.roles and "member" not in self.rule.roles


def served_methods() -> list[Method]:
    """The methods of the rooms that exist, in the contract's order."""
    contract = FileDescriptorSet.FromString((ROOT / "gen/soma.binpb").read_bytes())
    return [method for file in contract.file if file.service for method in methods_of(file.name)]


def methods_of(file: str) -> Iterator[Method]:
    parts = file.split("/")
    if parts[0] != "soma" or not (ROOT / "services" / parts[1] / "__main__.py").exists():
        return
    importlib.import_module(file.removesuffix(".proto").replace("/", ".") + "_pb2")
    for service in descriptor_pool.Default().FindFileByName(file).services_by_name.values():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            yield Method(
                path,
                parts[1],
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
                method.server_streaming,
                rule_of(path),
                variables(method),
            )


def variables(method: Descriptor) -> dict[str, str]:
    """What the paths of a method's HTTP bindings say about its fields."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    bindings = (rule, *rule.additional_bindings)
    found = [VARIABLE.findall(getattr(binding, binding.WhichOneof("pattern") or "get")) for binding in bindings]
    return {name: form for names in found for name, form in names if form != "**"}


def forms(methods: list[Method]) -> dict[str, str]:
    """The form of a field's names, by the field's full name, as far as any binding tells it."""
    told: dict[str, str] = {}
    for method in methods:
        for path, form in method.names.items():
            told[field_at(method.request.DESCRIPTOR, path).full_name] = form
    return told


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def field_at(kind: Descriptor, path: str) -> FieldDescriptor:
    first, _, rest = path.partition(".")
    field = kind.fields_by_name[first]
    return field_at(field.message_type, rest) if rest else field
