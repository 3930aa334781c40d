"""What a whole mesh really answers is what gen/openapi.json promises: every field named, nothing more, nothing less."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

import pytest

from tests.contract.openapi import check_answer, check_event, operations
from tests.system.edge import Answer, Client, Event
from tests.system.mesh import Mesh


class Checked:
    """A client each of whose answers is held against the document."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def call(self, verb: str, path: str, body: object = None, status: int = 200) -> Answer:
        answer = self.client.call(verb, path, body)
        assert answer.status == status, answer.body
        check_answer(verb, path, answer)
        return answer

    def stream(self, verb: str, path: str, body: object = None) -> list[Event]:
        events = []
        for event in self.client.stream(verb, path, body):
            check_event(verb, path, event)
            events.append(event)
        return events


@pytest.fixture(scope="module")
def client(scripted_mesh: Mesh) -> Checked:
    return Checked(Client.of(scripted_mesh, "acme", "reader"))


@pytest.fixture(scope="module")
def auditor(scripted_mesh: Mesh) -> Checked:
    return Checked(Client.of(scripted_mesh, "acme", "auditor"))


@pytest.fixture(scope="module")
def turn(client: Checked) -> Mapping[str, str]:
    accepted: Mapping[str, str] = client.stream("POST", "/v1/chat:stream", {"text": "hello"})[0]["accepted"]
    return accepted


def test_the_events_of_a_chat_and_of_its_repetition_are_as_promised(client: Checked, turn: Mapping[str, str]) -> None:
    again = client.stream("GET", f"/v1/{turn['turn']}:watch?afterSequence=1")
    assert "done" in again[-1]
    assert client.stream("POST", "/chat/stream", {"text": "again", "conversation": turn["conversation"]})


def test_the_events_of_a_turn_that_fails_are_as_promised(client: Checked) -> None:
    assert "error" in client.stream("POST", "/v1/chat:stream", {"text": "script:fail"})[-1]


def test_answers_about_conversations_are_as_promised(client: Checked, turn: Mapping[str, str]) -> None:
    made = client.call("POST", "/v1/conversations", {"title": "a title"}).json
    empty = client.call("POST", "/v1/conversations", {}).json
    for name in (made["name"], empty["name"], turn["conversation"]):
        client.call("GET", f"/v1/{name}")
    client.call("GET", "/v1/conversations?pageSize=1")
    client.call("GET", "/v1/conversations")
    client.call("PATCH", f"/v1/{made['name']}?updateMask=title", {"title": "another", "etag": made["etag"]})
    client.call("DELETE", f"/v1/{empty['name']}")


def test_answers_about_turns_are_as_promised(client: Checked, turn: Mapping[str, str]) -> None:
    client.call("GET", f"/v1/{turn['turn']}")
    client.call("GET", f"/v1/{turn['conversation']}/turns")
    client.call("POST", f"/v1/{turn['turn']}:cancel", {})


def test_answers_about_panes_their_versions_and_the_layout_are_as_promised(
    client: Checked, turn: Mapping[str, str]
) -> None:
    panes = f"/v1/{turn['conversation']}/panes"
    pane = client.call("POST", panes, {"kind": "code", "text": "a = 1"}).json
    changed = client.call("PATCH", f"/v1/{pane['name']}?updateMask=text", {"text": "a = 2", "etag": pane["etag"]}).json
    client.call("GET", f"/v1/{pane['name']}")
    client.call("GET", f"/canvas/{turn['conversation']}/panes")
    client.call("GET", f"/v1/{pane['name']}/versions")
    client.call("GET", f"/v1/{pane['name']}/versions/1")
    client.call("POST", f"/v1/{pane['name']}/versions/1:restore", {"etag": changed["etag"]})
    client.call("PATCH", f"/v1/{pane['name']}?updateMask=text", {"text": "a = 3", "etag": pane["etag"]}, status=409)
    client.call("GET", f"/v1/{turn['conversation']}/layout")
    client.call("PATCH", f"/v1/{turn['conversation']}/layout?updateMask=panes", {"panes": [pane["name"]]})
    client.call("DELETE", f"/v1/{pane['name']}")


def test_the_events_of_a_watched_canvas_are_as_promised(client: Checked, turn: Mapping[str, str]) -> None:
    path = f"/v1/{turn['conversation']}/panes:watch"
    client.call("POST", f"/v1/{turn['conversation']}/panes", {"text": "x"})
    first = next(client.client.stream("GET", path))
    check_event("GET", path, first)
    assert first["patch"]["operations"]


def test_answers_about_the_audit_trail_are_as_promised(auditor: Checked, turn: Mapping[str, str]) -> None:
    asked = f"action=chat.&outcome=done&since=2020-01-01T00:00:00Z&until=2999-01-01T00:00:00Z&resource={turn['turn']}"
    event = until_sealed(auditor, f"/v1/audit/events?{asked}")
    auditor.call("GET", f"/v1/{event['name']}")
    proof = auditor.call("GET", f"/v1/{event['name']}:inclusionProof").json
    auditor.call("GET", f"/v1/{event['name']}:inclusionProof?treeSize={proof['head']['size']}")
    auditor.call("GET", "/v1/audit/heads?pageSize=1")
    auditor.call("GET", "/v1/audit/heads:consistencyProof")
    auditor.call("GET", "/v1/audit/keys")
    auditor.call("GET", "/v1/audit/events?since=yesterday", status=400)
    auditor.call("GET", "/v1/audit/events/x", status=404)
    auditor.call("GET", "/v1/audit/events/x:inclusionProof", status=404)
    auditor.call("GET", "/v1/audit/heads:consistencyProof?secondSize=999999999", status=404)


def until_sealed(auditor: Checked, path: str) -> Mapping[str, str]:
    deadline = time.monotonic() + 60
    while not (found := auditor.call("GET", path).json["events"]):
        assert time.monotonic() < deadline, "the workers seal nothing"
        time.sleep(0.1)
    event: Mapping[str, str] = found[0]
    return event


def test_decisions_and_health_are_as_promised(client: Checked) -> None:
    client.call("POST", "/v1/decide", {"text": "hello", "tier": "premium"})
    client.call("GET", "/healthz")


def test_refusals_are_as_promised(client: Checked, turn: Mapping[str, str], scripted_mesh: Mesh) -> None:
    nothing = f"/v1/conversations/{uuid.uuid4()}"
    for path in ("", "/turns", "/turns/x", "/panes", "/panes/x", "/layout"):
        client.call("GET", nothing + path, status=404)
    client.call("POST", "/v1/chat:stream", {"text": ""}, status=400)
    client.call("POST", "/v1/chat:stream", b'{"text": ', status=400)
    client.call("POST", "/v1/decide", {"text": "x", "tier": "gold"}, status=400)
    client.call("POST", "/v1/decide", {"text": "x" * 2**21}, status=413)
    client.call("GET", "/v1/conversations?nothing=1", status=400)
    client.call("GET", "/v1/conversations?pageToken=x", status=400)
    client.call("GET", f"/v1/{turn['turn']}:watch?afterSequence=99", status=400)
    client.call("PATCH", f"/v1/{turn['conversation']}?updateMask=name", {"title": "x"}, status=400)
    for nobody, status in (
        (Client(scripted_mesh.port), 401),
        (Client.of(scripted_mesh, "acme", "reader", "nobody"), 403),
    ):
        Checked(nobody).call("GET", "/v1/conversations", status=status)


def test_every_operation_answers_someone_without_a_token_as_it_says(scripted_mesh: Mesh) -> None:
    nobody = Checked(Client(scripted_mesh.port))
    for verb, path, operation in operations():
        plain = path.replace("{", "").replace("}", "")
        nobody.call(verb, plain, {} if "requestBody" in operation else None, status=200 if path == "/healthz" else 401)
