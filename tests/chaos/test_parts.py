"""Each part of a whole mesh killed in mid-turn: a clear end or a completed answer, nothing lost, and all well again."""

from __future__ import annotations

import http.client
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.edge import Client, Event, kind, text_of, until
from tests.system.mesh import Mesh, running_mesh, wait_until

LONG, LONGER = "script:words=150 script:pace=20", "script:words=3000 script:pace=20"
ALL, ALL_LONGER = (" ".join(f"word{n}" for n in range(1, words + 1)) for words in (150, 3000))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of our own: what dies here is nobody else's."""
    with running_mesh(tmp_path_factory.mktemp("chaos") / "soma", "TEST") as mesh:
        yield mesh


@pytest.fixture
def client(mesh: Mesh) -> Client:
    wait_until(lambda: is_well(mesh), 60, "all parts being well")
    return Client.of(mesh)


def is_well(mesh: Mesh) -> bool:
    try:
        return Client(mesh.port).call("GET", "/healthz").status == 200
    except OSError:
        return False


def to_the_end(client: Client, events: list[Event]) -> list[Event]:
    """What a patient client sees: it watches on from its last event until there is a last one."""
    turn, over = events[0]["accepted"]["turn"], time.monotonic() + 30
    while kind(events[-1]) not in ("done", "error"):
        assert time.monotonic() < over, "the turn did not end within 30 s"
        try:
            path = f"/v1/{turn}:watch?afterSequence={events[-1]['sequence']}"
            for event in client.stream("GET", path):
                if "sequence" in event:
                    events.append(event)
        except (AssertionError, OSError, http.client.HTTPException) as fault:
            if re.match("4(?!01)", str(fault)):  # an edge that has just begun says 401 without the issuer's keys
                raise
            time.sleep(0.1)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), "no gap, no second telling"
    return events


@pytest.mark.parametrize("part", ["postgres", "valkey", "edge", "issuer"])
def test_an_answer_is_completed_though_a_part_dies_in_the_middle(mesh: Mesh, client: Client, part: str) -> None:
    seen = until(client.stream("POST", "/v1/chat:stream", {"text": LONG}), words=10)

    mesh.kill(part)
    events = to_the_end(client, seen)

    assert kind(events[-1]) == "done", events[-1]
    assert text_of(events) == ALL
    wait_until(lambda: is_well(mesh), 30, f"{part} being back")
    assert client.call("GET", f"/v1/{events[0]['accepted']['turn']}").json["answer"] == ALL
    assert kind(client.ask("and again")[-1]) == "done"


@pytest.mark.parametrize(("part", "reason"), [("agent", "INTERRUPTED"), ("router", "ROOM_UNAVAILABLE")])
def test_a_turn_ends_with_its_text_when_a_room_dies_in_the_middle(
    mesh: Mesh, client: Client, part: str, reason: str
) -> None:
    seen = until(client.stream("POST", "/v1/chat:stream", {"text": LONGER}), words=10)

    mesh.kill(part)
    died = time.monotonic()
    events = to_the_end(client, seen)

    assert time.monotonic() - died < 25
    assert kind(events[-1]) == "error"
    assert events[-1]["error"]["reason"] == reason
    turn = client.call("GET", f"/v1/{events[0]['accepted']['turn']}").json
    assert (turn["state"], turn["answer"]) == ("STATE_FAILED", text_of(events))
    assert ALL_LONGER.startswith(turn["answer"])
    wait_until(lambda: is_well(mesh), 30, f"{part} being back")
    assert kind(client.ask("and again", conversation=events[0]["accepted"]["conversation"])[-1]) == "done"


@pytest.mark.parametrize("part", ["postgres", "valkey", "router"])
def test_a_part_that_stands_still_is_an_error_in_words_or_an_answer_and_never_a_hang(
    mesh: Mesh, client: Client, part: str
) -> None:
    pid = mesh.kill(part, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with client.open("POST", "/v1/chat:stream", {"text": "hello"}) as response:
            body = response.read()
        assert time.monotonic() - began < 25
        assert b"done" in body or b"UNAVAILABLE" in body or b"DEADLINE" in body, body
        assert b"INTERNAL" not in body
        assert b"UNEXPECTED" not in body
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(300)
def test_after_kill_9_of_every_process_nothing_is_missing(tmp_path: Path) -> None:
    with running_mesh(tmp_path / "soma", "TEST") as mesh:
        client = Client.of(mesh)
        whole = client.ask("kept")
        half = until(client.stream("POST", "/v1/chat:stream", {"text": "script:words=2000 script:pace=20"}), words=80)
        newest = "SELECT last_sequence FROM t_acme.turns ORDER BY create_time DESC LIMIT 1"
        # what only Valkey has by then may go: it writes its file once a second or later
        wait_until(lambda: mesh.query(newest)[0]["last_sequence"] >= half[-1]["sequence"], what="the checkpoint")

        processes = mesh.processes()
        for process in processes:
            process.signal(signal.SIGKILL)
        assert len(processes) >= 7
        mesh.up()
        client = Client.of(mesh)

        assert client.watch(whole[0]["accepted"]["turn"]) == whole
        events = to_the_end(client, half)
        assert events[-1]["error"]["reason"] == "INTERRUPTED"
        turn = client.call("GET", f"/v1/{half[0]['accepted']['turn']}").json
        assert (turn["state"], turn["answer"]) == ("STATE_FAILED", text_of(events))
        assert kind(client.ask("again", conversation=half[0]["accepted"]["conversation"])[-1]) == "done"
