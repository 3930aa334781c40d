"""The contract that clients see, from outside: HTTP and SSE at the edge of a whole mesh."""

from __future__ import annotations

import json
import threading
import uuid

import pytest

from tests.system.edge import Client, kind, text_of, until
from tests.system.mesh import Mesh, wait_until

UNKNOWN = f"conversations/{uuid.uuid4()}"


@pytest.fixture(scope="module")
def client(scripted_mesh: Mesh) -> Client:
    return Client.of(scripted_mesh)


def test_an_answer_streams_as_numbered_events_from_accepted_to_done(client: Client) -> None:
    events = client.ask("one two three")

    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert [kind(event) for event in events][:2] == ["accepted", "decision"]
    assert kind(events[-1]) == "done"
    assert text_of(events) == "You said: one two three"
    assert events[0]["accepted"]["turn"].startswith(events[0]["accepted"]["conversation"] + "/turns/")
    decision, done = events[1]["decision"], events[-1]["done"]
    assert decision["model"] and decision["provider"] and decision["tier"] == "standard" and decision["candidates"]
    assert int(decision["estimatedCostMicrousd"]) >= 0
    assert isinstance(done["costMicrousd"], str), "int64 is a string in JSON"
    assert done["usage"]["outputTokens"] > 0
    assert done["finishReason"] == "stop"


def test_the_blueprints_path_is_the_same_chat(client: Client) -> None:
    events = list(client.stream("POST", "/chat/stream", {"text": "hello"}))

    assert text_of(events) == "You said: hello"


def test_who_hangs_up_gets_the_rest_by_watching(client: Client) -> None:
    seen = until(client.stream("POST", "/v1/chat:stream", {"text": "script:words=40 script:pace=10"}), words=3)
    turn = seen[0]["accepted"]["turn"]

    rest = client.watch(turn, seen[-1]["sequence"])
    again = client.watch(turn)

    assert [event["sequence"] for event in seen + rest] == list(range(1, len(seen) + len(rest) + 1))
    assert text_of(seen + rest) == " ".join(f"word{n}" for n in range(1, 41))
    assert again == seen + rest
    assert client.watch(turn, len(again)) == []


def test_the_first_event_does_not_wait_for_the_model(client: Client) -> None:
    stream = client.stream("POST", "/v1/chat:stream", {"text": "script:wait=50000 slow"})
    first = next(stream)
    turn = client.call("GET", f"/v1/{first['accepted']['turn']}").json

    assert kind(first) == "accepted"
    assert turn["state"] == "STATE_RUNNING"
    stream.close()  # type: ignore[attr-defined]
    client.call("POST", f"/v1/{first['accepted']['turn']}:cancel", {})


def test_beyond_the_last_event_is_unknown(client: Client) -> None:
    turn = client.ask("x")[0]["accepted"]["turn"]
    answer = client.call("GET", f"/v1/{turn}:watch?afterSequence=99")

    assert (answer.status, answer.reason) == (400, "SEQUENCE_UNKNOWN")


def test_the_same_request_at_the_same_moment_is_one_turn(client: Client) -> None:
    body = {"text": "script:words=10 script:pace=20", "requestId": str(uuid.uuid4())}
    streams: list[list[dict[str, object]]] = []
    threads = [
        threading.Thread(target=lambda: streams.append(list(client.stream("POST", "/v1/chat:stream", body))))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert len(streams) == 5
    assert all(stream == streams[0] for stream in streams)
    answer = client.call("POST", "/v1/chat:stream", {**body, "text": "other"})
    assert (answer.status, answer.reason) == (409, "REQUEST_ID_REUSED")


def test_one_turn_at_a_time_and_the_refusal_names_it(client: Client) -> None:
    seen = until(client.stream("POST", "/v1/chat:stream", {"text": "script:words=500 script:pace=20"}), words=1)
    accepted = seen[0]["accepted"]

    answer = client.call("POST", "/v1/chat:stream", {"text": "x", "conversation": accepted["conversation"]})
    cancelled = client.call("POST", f"/v1/{accepted['turn']}:cancel", {})

    assert (answer.status, answer.reason) == (409, "TURN_RUNNING")
    assert answer.json["details"][0]["metadata"]["turn"] == accepted["turn"]
    assert (cancelled.status, cancelled.json["state"]) == (200, "STATE_CANCELLED")
    assert client.watch(accepted["turn"])[-1]["done"]["finishReason"] == "cancelled"


def test_conversations_are_created_listed_renamed_and_deleted(client: Client) -> None:
    made = client.call("POST", f"/v1/conversations?requestId={uuid.uuid4()}", {"title": "old"}).json
    name = made["name"]
    renamed = client.call("PATCH", f"/v1/{name}?updateMask=title", {"title": "new", "etag": made["etag"]})
    stale = client.call("PATCH", f"/v1/{name}?updateMask=title", {"title": "newer", "etag": made["etag"]})
    listed = client.call("GET", "/v1/conversations?pageSize=1").json

    assert (renamed.status, renamed.json["title"]) == (200, "new")
    assert (stale.status, stale.reason) == (409, "ETAG_STALE")
    assert [c["name"] for c in listed["conversations"]] == [name]
    assert client.call("DELETE", f"/v1/{name}").status == 200
    gone = client.call("GET", f"/v1/{name}")
    assert (gone.status, gone.reason) == (404, "CONVERSATION_UNKNOWN")


def test_a_decision_can_be_asked_for_without_spending(client: Client) -> None:
    decision = client.call("POST", "/v1/decide", {"text": "hello", "tier": "slm"}).json

    assert decision["tier"] == "slm"
    assert decision["why"]
    assert any(c["closed"] for c in decision["candidates"])


def test_the_mesh_is_well_and_says_so_to_anyone(scripted_mesh: Mesh) -> None:
    answer = Client(scripted_mesh.port).call("GET", "/healthz")

    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/v1/chat:stream", {"text": ""}, 400, "TEXT_EMPTY"),
        ("POST", "/v1/chat:stream", {}, 400, "TEXT_EMPTY"),
        ("POST", "/v1/chat:stream", {"text": "x" * (128 * 1024 + 1)}, 400, "TEXT_TOO_LONG"),
        ("POST", "/v1/chat:stream", {"text": "x" * (2 * 1024 * 1024)}, 413, "BODY_TOO_LARGE"),
        ("POST", "/v1/chat:stream", {"text": "x", "tier": "gold"}, 400, "REQUEST_INVALID"),
        ("POST", "/v1/chat:stream", {"text": "x", "requestId": "1"}, 400, "REQUEST_INVALID"),
        ("POST", "/v1/chat:stream", {"text": "x", "conversation": UNKNOWN}, 404, "CONVERSATION_UNKNOWN"),
        ("POST", "/v1/chat:stream", {"text": "x", "conversation": "x"}, 404, "CONVERSATION_UNKNOWN"),
        ("POST", "/v1/chat:stream", {"text": 7}, 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/chat:stream", b'{"text": "x"', 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/chat:stream", b'{"text": "\xff\xfe"}', 400, "REQUEST_MALFORMED"),
        ("GET", "/v1/conversations?colour=red", None, 400, "REQUEST_MALFORMED"),
        ("GET", "/v1/conversations?pageToken=x", None, 400, "PAGE_TOKEN_INVALID"),
        ("GET", "/v1/conversations?pageSize=101", None, 400, "REQUEST_INVALID"),
        ("GET", f"/v1/{UNKNOWN}", None, 404, "CONVERSATION_UNKNOWN"),
        ("GET", f"/v1/{UNKNOWN}/turns", None, 404, "CONVERSATION_UNKNOWN"),
        ("GET", f"/v1/{UNKNOWN}/turns/x", None, 404, "TURN_UNKNOWN"),
        ("GET", f"/v1/{UNKNOWN}/turns/x:watch", None, 404, "TURN_UNKNOWN"),
        ("PATCH", f"/v1/{UNKNOWN}", {"title": "x"}, 400, "UPDATE_MASK_INVALID"),
        ("PATCH", f"/v1/{UNKNOWN}?updateMask=title", {"title": "x"}, 404, "CONVERSATION_UNKNOWN"),
        ("GET", "/v1/nothing", None, 404, "PATH_UNKNOWN"),
        ("GET", "/nothing", None, 404, "PATH_UNKNOWN"),
        ("POST", "/soma.router.v1.RouterService/Generate", b"", 404, "PATH_UNKNOWN"),
    ],
)
def test_bad_input_is_refused_as_status_json_with_a_reason(
    client: Client, method: str, path: str, body: object, status: int, reason: str
) -> None:
    answer = client.call(method, path, body)

    assert (answer.status, answer.reason) == (status, reason), answer.body
    assert answer.json["message"]
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_without_a_good_token_nothing_is_answered(scripted_mesh: Mesh, token: str) -> None:
    for method, path in (("POST", "/v1/chat:stream"), ("GET", "/v1/conversations"), ("POST", "/v1/decide")):
        answer = Client(scripted_mesh.port, token).call(method, path, {"text": "x"} if method == "POST" else None)
        assert (answer.status, answer.reason) == (401, "TOKEN_REFUSED")


def test_what_is_not_yours_is_404_whoever_you_are(scripted_mesh: Mesh, client: Client) -> None:
    accepted = client.ask("mine")[0]["accepted"]
    turn, conversation = accepted["turn"], accepted["conversation"]
    for stranger in (
        Client.of(scripted_mesh, "globex", "member"),
        Client.of(scripted_mesh, "acme", "other"),
        Client.of(scripted_mesh, "acme", "admin", "admin"),
    ):
        for method, path in (
            ("GET", f"/v1/{turn}"),
            ("GET", f"/v1/{turn}:watch"),
            ("POST", f"/v1/{turn}:cancel"),
            ("GET", f"/v1/{conversation}"),
            ("GET", f"/v1/{conversation}/turns"),
            ("DELETE", f"/v1/{conversation}"),
            ("PATCH", f"/v1/{conversation}?updateMask=title"),
        ):
            answer = stranger.call(method, path, {} if method in ("POST", "PATCH") else None)
            assert answer.status == 404, (path, answer.body)
    assert client.call("GET", f"/v1/{conversation}").status == 200


def test_every_error_is_a_status_without_grpcs_own_headers(client: Client) -> None:
    answer = client.call("GET", f"/v1/{UNKNOWN}")

    assert set(answer.json) == {"code", "message", "details"}
    assert not [name for name in answer.headers if name.startswith(("grpc-", "x-envoy"))]
    assert answer.headers["cache-control"] == "no-store"


def test_postgres_holds_the_turn_its_events_and_its_audit_rows(scripted_mesh: Mesh, client: Client) -> None:
    turn = client.ask("kept for good")[0]["accepted"]["turn"]
    id = turn.rpartition("/")[2]

    rows = scripted_mesh.rows(f"SELECT state, answer FROM t_acme.turns WHERE id = '{id}'")
    told = scripted_mesh.rows(f"SELECT type, body FROM told WHERE body->>'turn' = '{turn}' ORDER BY id")
    audit = scripted_mesh.rows(f"SELECT action FROM audited WHERE body->>'resource' = '{turn}' ORDER BY id")

    assert rows == [{"state": "done", "answer": "You said: kept for good"}]
    assert [row["type"] for row in told] == ["turn.asked", "routing.decided", "routing.settled", "turn.answered"]
    assert "kept for good" not in json.dumps(told)
    assert [row["action"] for row in audit] == ["chat.asked", "turn.answered"]


def test_a_trace_is_kept_over_every_hop(scripted_mesh: Mesh, client: Client) -> None:
    trace = uuid.uuid4().hex
    with client.open(
        "POST", "/v1/chat:stream", {"text": "traced"}, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    ) as response:
        response.read()

    def rooms() -> set[str]:
        spans = (scripted_mesh.home / "telemetry").glob("*.jsonl")
        return {file.name.split(".")[0] for file in spans if trace in file.read_text()}

    wait_until(lambda: {"agent", "router"} <= rooms(), what="spans of both rooms")
