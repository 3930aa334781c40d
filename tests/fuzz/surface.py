"""The REST surface as its document tells it, through the edge: who calls, with what, and what is counted."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response

from services.common.openai import every
from tests.fuzz.draw import SEED, TIMES
from tests.fuzz.methods import ROOT
from tests.fuzz.tally import Tally
from tests.system.edge import Client, text_of
from tests.system.mesh import Mesh

DOCUMENT = ROOT / "gen/openapi.json"
EXAMPLES = 20
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
STREAM = "text/event-stream"
STREAM_S, ANSWER_S = 1.0, 10.0
CONFIG = {
    "seed": SEED,
    "max-stream-events": 20,
    "cache": {"enabled": False},
    "generation": {
        "max-examples": max(1, round(EXAMPLES * TIMES)),
        "deterministic": True,
        "with-security-parameters": False,
    },
}


def load_surface() -> Any:
    document = json.loads(DOCUMENT.read_text())
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(CONFIG))


@dataclass
class Seat:
    """A person at the edge, with a conversation, a turn and a pane of their own."""

    mesh: Mesh
    client: Client
    tally: Tally
    ids: dict[str, str] = field(default_factory=dict)

    def furnish(self) -> None:
        """Anew, when what was there is deleted."""
        conversation = self.ids.get("conversation")
        pane = f"/v1/conversations/{conversation}/panes/{self.ids.get('pane')}"
        if conversation and self.client.call("GET", pane).status == 200:
            return
        events = self.client.ask("hello")
        assert text_of(events)
        turn = events[0]["accepted"]["turn"].split("/")
        made = self.client.call("POST", f"/v1/conversations/{turn[1]}/panes", {"kind": "code", "text": "1"})
        assert made.status == 200, made.body
        pane = made.json["name"].split("/")[3]
        self.ids = {"conversation": turn[1], "turn": turn[3], "pane": pane, "version": "1", "event": "0"}

    def settle(self, case: Any) -> None:
        """Let a case that means no harm by its path be about things that are there, three times of four."""
        means_harm = case.meta is None or case.meta.is_negative_at(ParameterLocation.PATH)
        if means_harm or len(repr(case.path_parameters)) % 4 == 0:
            return
        for name in case.path_parameters or {}:
            case.path_parameters[name] = self.ids.get(name, case.path_parameters[name])
        for part in (case.query, case.body):
            if isinstance(part, dict) and UUID.fullmatch(str(part.get("requestId"))):
                part["requestId"] = str(uuid.uuid4())

    def call(self, case: Any) -> Response:
        """The whole answer; of a stream what comes within a second."""
        bearer = {"authorization": f"Bearer {self.client.token}"}
        response = case.call(base_url=self.mesh.url, headers=bearer, timeout=STREAM_S if streams(case) else ANSWER_S)
        self.tally.count(case.operation.label, reason_of(response), response.elapsed)
        answer: Response = response
        return answer


def streams(case: Any) -> bool:
    return any(STREAM in answer.get("content", {}) for answer in case.operation.definition.raw["responses"].values())


def reason_of(response: Response) -> str:
    """What a refusal gives as its reason, else the status."""
    if response.status_code < 400:
        return str(response.status_code)
    said = json.loads(response.content)
    if "error" in said:
        return next(reason for reason, (_, code) in every().items() if code == said["error"]["code"])
    details = said["details"]
    return str(details[0]["reason"]) if details else str(response.status_code)


def check_events(case: Any, response: Response) -> None:
    """Each event of a stream is what the document says of it. The last one may be cut by ourselves."""
    told = case.operation.definition.raw["responses"]["200"]["content"][STREAM].get("x-event-schema")
    if told is None:  # OpenAI's
        return
    validator = jsonschema_rs.validator_for({**told, "components": case.operation.schema.raw_schema["components"]})
    lines = response.content.decode().split("\n\n")
    for line in lines[:-1]:
        validator.validate(json.loads(line.removeprefix("data: ")))


def meant(case: Any) -> bool:
    """Whether a case that breaks the document does so for the edge's reader of JSON too. To that, null is the same as
    absent, no body as an empty one, and one thing, or lists in a list, as the list of all of them."""
    if isinstance(case.body, NotSet) or holds_null(case.body):
        return False
    lists = arrays_of(case.operation.schema.raw_schema)
    return not (isinstance(case.body, dict) and any(is_loose(case.body[name]) for name in lists & case.body.keys()))


def arrays_of(document: Any) -> set[str]:
    """The names of all fields that are lists."""
    properties = (schema.get("properties", {}) for schema in document["components"]["schemas"].values())
    return {name for one in properties for name, told in one.items() if told.get("type") == "array"}


def is_loose(value: Any) -> bool:
    """Whether it is no list, or one with lists in it."""
    return any(isinstance(one, list) for one in value) if isinstance(value, list) else not isinstance(value, dict)


def holds_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(holds_null, inner))
