"""The REST surface as its document tells it, through the edge: who calls, with what, and what is counted."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response

from services.common.openai import every
from tests.fuzz.draw import SEED, TIMES, draw
from tests.fuzz.front import blamed, chats, vectors
from tests.fuzz.methods import ROOT
from tests.fuzz.tally import Tally
from tests.system.edge import Client, text_of
from tests.system.mesh import Mesh

DOCUMENT = ROOT / "gen/openapi.json"
EXAMPLES = 20
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GOVERNED = "governed"
DECIDE = "/v1/decide"
FRONT = {"/v1/chat/completions": chats(), "/v1/embeddings": vectors()}
STREAM = "text/event-stream"
STREAM_S, ANSWER_S = 1.0, 20.0
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
    """A person at the edge, with a conversation, a turn and a pane of their own; and somebody who governs a tenant in
    which nobody else is."""

    mesh: Mesh
    client: Client
    governor: Client
    tally: Tally
    ids: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    bodies: dict[str, list[Any]] = field(
        default_factory=lambda: {path: draw(bodies, EXAMPLES) for path, bodies in FRONT.items()}
    )

    @classmethod
    def of(cls, mesh: Mesh, tally: Tally) -> Seat:
        mesh.soma("tenant", "add", GOVERNED)
        client = Client.of(mesh, "acme", "fuzz", "member", "auditor")
        return cls(mesh, client, Client.of(mesh, GOVERNED, "fuzz", "admin"), tally)

    def furnish(self, case: Any) -> None:
        """With what a case may be about: anew, when what was there is deleted."""
        if governs(case):
            if not self._has("budget", self.governor, "budgets/{budget}"):
                self._furnish_governed()
        elif not self._has("pane", self.client, "conversations/{conversation}/panes/{pane}"):
            self._furnish_own()

    def settle(self, case: Any) -> None:
        """Let a case that means no harm by its path be about things that are there, three times of four; and ask the
        front door for what it understands, as often, where the document knows nothing of it."""
        if case.meta is None or next(self.numbers) % 4 == 0:
            return
        if not case.meta.is_negative_at(ParameterLocation.PATH):
            for name in case.path_parameters or {}:
                case.path_parameters[name] = self.ids.get(name, case.path_parameters[name])
        if not case.meta.is_negative_at(ParameterLocation.BODY):
            self._say_what_is_understood(case)
        for part in (case.query, case.body):
            if isinstance(part, dict) and UUID.fullmatch(str(part.get("requestId"))):
                part["requestId"] = str(uuid.uuid4())

    def _say_what_is_understood(self, case: Any) -> None:
        if bodies := self.bodies.get(case.operation.path):
            case.body = bodies[next(self.numbers) % len(bodies)]
        elif case.operation.path.endswith("/feedback"):
            case.body = {"turn": f"conversations/{self.ids['conversation']}/turns/{self.ids['turn']}", "thumb": "up"}

    def _has(self, name: str, client: Client, form: str) -> bool:
        return name in self.ids and client.call("GET", f"/v1/{form.format_map(self.ids)}").status == 200

    def _furnish_own(self) -> None:
        events = self.client.ask("hello")
        assert text_of(events)
        turn = events[0]["accepted"]["turn"].split("/")
        pane = self._made(self.client, f"conversations/{turn[1]}/panes", {"kind": "code", "text": "1"})
        decision = next(event["decision"]["id"] for event in events if "decision" in event)
        own = {"conversation": turn[1], "turn": turn[3], "pane": pane, "version": "1", "event": "0"}
        self.ids |= own | {"decision": decision, "model": "soma%2Fauto"}

    def _furnish_governed(self) -> None:
        budget = {"scope": "task", "of": str(uuid.uuid4()), "window": "day", "limit": {"requests": "1"}}
        self.ids |= {
            "budget": self._made(self.governor, "budgets", budget),
            "key": self._made(self.governor, "keys", {"person": "fuzz"}),
            "policy": self._made(self.governor, "policies", {"policy": {"dial": 0.5}}),
            "provider": "scripted",
        }

    def _made(self, client: Client, collection: str, body: object) -> str:
        made = client.call("POST", f"/v1/{collection}", body)
        assert made.status == 200, made.body
        return str(made.json["name"].rpartition("/")[2])

    def call(self, case: Any) -> Response:
        """The whole answer; of a stream what comes until it is silent for a second. It has longer to begin."""
        client = self.governor if governs(case) else self.client
        ask = partial(case.call, base_url=self.mesh.url, headers={"authorization": f"Bearer {client.token}"})
        try:
            response = ask(timeout=STREAM_S if streams(case) else ANSWER_S)
        except requests.ReadTimeout:
            if not streams(case):
                raise
            response = ask(timeout=ANSWER_S)
        self.tally.count(case.operation.label, reason_of(response), response.elapsed)
        answer: Response = response
        return answer


def governs(case: Any) -> bool:
    """It sets, or shows, what all of a tenant may do."""
    roles = case.operation.definition.raw.get("x-roles", ())
    return "operator" in roles and "member" not in roles


def leaves_none(case: Any, response: Response) -> bool:
    """Whether the request itself left no model open."""
    asks = case.operation.path in (DECIDE, *FRONT)
    return bool(asks and reason_of(response) == "MODEL_UNAVAILABLE")


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
        assert not blamed(response.content.rpartition(b"\n\n")[0] or response.content)
        return
    validator = jsonschema_rs.validator_for({**told, "components": case.operation.schema.raw_schema["components"]})
    lines = response.content.decode().split("\n\n")
    for line in lines[:-1]:
        validator.validate(json.loads(line.removeprefix("data: ")))
