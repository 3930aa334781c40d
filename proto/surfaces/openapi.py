"""OpenAPI 3.1 of all that the edge serves by HTTP: every binding of every method, as it behaves there.

The edge's own sign-in (/oidc) is no part of the contract, so it is not here.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proto.surfaces.contract import Contract, Method
from proto.surfaces.operations import alias, operation
from proto.surfaces.reasons import Reason, catalogue
from proto.surfaces.refused import OPENAI_ERROR, default_answer, examples, status_schemas, told
from proto.surfaces.shapes import Shapes

ABOUT = """\
Errors are a `google.rpc.Status` whose `ErrorInfo` names a reason; `x-reasons` lists them for each answer. What is not
yours is 404.

Streams are server-sent events: each `data:` holds one event as JSON. Their errors come before the first event as a
status, afterwards in band."""


def write_openapi(gen: Path, contract: Contract, project: Path) -> None:
    """Write gen/openapi.json. `project` is pyproject.toml, for the version."""
    version = tomllib.loads(project.read_text())["project"]["version"]
    (gen / "openapi.json").write_text(json.dumps(document(contract, version), indent=2, ensure_ascii=False) + "\n")


def document(contract: Contract, version: str) -> Mapping[str, Any]:
    shapes, known = Shapes(contract), catalogue(contract)
    bound = [method for method in contract.methods if method.bindings]
    paths = paths_of(bound, shapes, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SomaAgent 01", "version": version, "description": flowing(ABOUT),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This mesh."}],
        "security": [{"person": []}],
        "tags": tags(bound, shapes),
        "paths": paths,
        "x-reasons": {r.name: {"status": r.status, "description": told(r)} for r in known.values()},
        "components": {
            "securitySchemes": {"person": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "A person's token, of the issuer that the mesh trusts.",
            }},
            "schemas": dict(sorted((shapes.schemas | status_schemas(known)).items())),
            "responses": {"Refused": default_answer(), "OpenAIRefused": default_answer(OPENAI_ERROR)},
            "examples": examples(known),
        },
    }  # fmt: skip


def tags(bound: list[Method], shapes: Shapes) -> list[Mapping[str, str]]:
    services = {method.descriptor.containing_service.full_name: method for method in bound}
    return [
        {"name": method.descriptor.containing_service.name, "description": shapes.text(name)}
        for name, method in services.items()
    ]


def paths_of(bound: list[Method], shapes: Shapes, known: Mapping[str, Reason]) -> Mapping[str, Any]:
    """By path, then by verb; the main bindings before the aliases."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for method in sorted(bound, key=lambda method: method.bindings[0].path):
        binding = method.bindings[0]
        paths[binding.path][binding.verb.lower()] = operation(method, binding, shapes, known)
    for method in bound:
        for number, binding in enumerate(method.bindings[1:], 2):
            paths[binding.path][binding.verb.lower()] = alias(method, number, binding, shapes, known)
    return paths


def flowing(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
