"""gen/openapi.json in the hands of a test: which operation a path is, and whether an answer is what it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from services.common.openai import type_and_code
from tests.contract.requests import DESCRIPTORS
from tests.system.edge import Answer, Event

Json = Mapping[str, Any]
DOCUMENT: Json = json.loads(DESCRIPTORS.with_name("openapi.json").read_text())
PLACE = re.compile(r"\{\w+\}")


def operations() -> Iterator[tuple[str, str, Json]]:
    """Verb, path and operation."""
    for path, verbs in DOCUMENT["paths"].items():
        for verb, operation in verbs.items():
            yield verb.upper(), path, operation


def operation_of(verb: str, path: str) -> Json:
    """That of a real path; a colon ends a segment."""
    plain = path.partition("?")[0]
    (found,) = [
        o for v, template, o in operations() if v == verb and re.fullmatch(PLACE.sub("[^/:]+", template), plain)
    ]
    return found


def check_answer(verb: str, path: str, answer: Answer) -> None:
    """The answer is one that the document names, in its form; of a refusal, with a reason that it names and the code of
    that reason's example."""
    responses = operation_of(verb, path)["responses"]
    promised = responses[str(answer.status)]
    content = promised["content"][answer.headers["content-type"]]
    validator(json.dumps(content["schema"])).validate(answer.json)
    if "error" in answer.json:
        assert answer.json["error"]["code"] in {type_and_code(reason)[1] for reason in promised["x-reasons"]}
    elif answer.status != 200:
        assert answer.reason in promised["x-reasons"]
        assert answer.json["code"] == DOCUMENT["components"]["examples"][answer.reason]["value"]["code"]


def check_event(verb: str, path: str, event: Event) -> None:
    content = operation_of(verb, path)["responses"]["200"]["content"]["text/event-stream"]
    validator(json.dumps(content["x-event-schema"])).validate(event)


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Of a schema of the document, and strict: a field that no schema names is one too many."""
    components = {"components": {"schemas": {n: closed(s) for n, s in DOCUMENT["components"]["schemas"].items()}}}
    return jsonschema_rs.Draft202012Validator(json.loads(schema) | components, validate_formats=True)


def closed(schema: Json) -> Json:
    return {**schema, "additionalProperties": False} if "properties" in schema else schema
