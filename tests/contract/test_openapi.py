"""gen/openapi.json is valid, and says of each route what the contract and the edge say."""

from __future__ import annotations

import re
from itertools import pairwise

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.common.errors import CATALOGUE
from services.local.edge.contract import bindings
from tests.contract.openapi import DOCUMENT, PLACE, Json, operation_of, operations, validator
from tests.contract.requests import DESCRIPTORS
from tests.house import ROOMS


def name(part: Json | str) -> str:
    return "" if isinstance(part, str) else str(part["operationId"])


def test_the_document_is_openapi_3_1() -> None:
    assert [str(fault) for fault in OpenAPIV31SpecValidator(dict(DOCUMENT)).iter_errors()] == []


def test_its_schemas_are_json_schemas() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        jsonschema_rs.meta.validate(DOCUMENT["components"]["schemas"][name])
        validator(f'{{"$ref": "#/components/schemas/{name}"}}')


def test_its_paths_are_the_routes_of_the_edge_all_of_them_and_no_other() -> None:
    bound = [b for b in bindings(DESCRIPTORS.read_bytes()) if b.method.room in ROOMS]
    routes = sorted((b.verb, b.path) for b in bound)
    assert sorted((verb, as_route(path, operation)) for verb, path, operation in operations()) == routes


def test_no_path_can_be_taken_for_another() -> None:
    plain = sorted(PLACE.sub("x", path) for path in DOCUMENT["paths"])
    assert all(one != other for one, other in pairwise(plain))


def test_each_operation_has_a_name_of_its_own_and_an_alias_names_its_like() -> None:
    by_id = {operation["operationId"]: operation for _, _, operation in operations()}
    assert len(by_id) == len(list(operations()))
    for operation in by_id.values():
        if like := operation.get("x-alias-of"):
            assert operation["responses"] == by_id[like]["responses"]
            assert operation.get("requestBody") == by_id[like].get("requestBody")


@pytest.mark.parametrize(("path", "operation"), [(p, o) for _, p, o in operations()], ids=name)
def test_every_operation_says_what_is_in_its_path_and_how_it_refuses(path: str, operation: Json) -> None:
    assert [p["name"] for p in operation["parameters"] if p["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
    assert "default" in operation["responses"]
    named = {reason for response in operation["responses"].values() for reason in response.get("x-reasons", [])}
    assert named <= CATALOGUE
    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", operation["description"])) & CATALOGUE <= named
    assert ("TOKEN_REFUSED" in named) == (operation.get("security") != [])


def test_what_a_person_sends_has_no_place_for_what_only_the_mesh_says() -> None:
    pane = DOCUMENT["components"]["schemas"]["soma.canvas.v1.Pane.Input"]["properties"]
    assert set(pane) == {"kind", "title", "language", "text", "etag"}
    made = DOCUMENT["components"]["schemas"]["soma.canvas.v1.Pane"]["properties"]
    assert made["version"]["readOnly"] and "readOnly" not in made["title"]


def test_rules_are_limits() -> None:
    question = validator('{"$ref": "#/components/schemas/soma.agent.v1.ChatRequest"}')
    assert question.is_valid({"text": "hello", "tier": "slm", "requestId": "01a20480-236a-7f68-b035-d266f9a92486"})
    for broken in (
        {},
        {"text": ""},
        {"text": "x" * 131073},
        {"text": "x", "tier": "gold"},
        {"text": "x", "requestId": "1"},
    ):
        assert not question.is_valid(broken)
    sizes = {p["name"]: p for p in operation_of("GET", "/v1/conversations")["parameters"]}
    assert (sizes["pageSize"]["schema"]["minimum"], sizes["pageSize"]["schema"]["maximum"]) == (0, 100)
    mask = {p["name"]: p for p in operation_of("PATCH", "/v1/conversations/x/panes/y")["parameters"]}["updateMask"]
    assert mask["required"] and re.search(mask["schema"]["pattern"], "title,text")
    assert not re.search(mask["schema"]["pattern"], "version")


def as_route(path: str, operation: Json) -> str:
    """The regular expression that the edge has for it."""
    is_long = any("/" in p["schema"].get("pattern", "").replace("[^/:]", "") for p in operation["parameters"])
    return (".+" if is_long else "[^/]+").join(re.escape(part) for part in PLACE.split(path))
