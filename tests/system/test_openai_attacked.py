"""The OpenAI front door under those who mean no good: secrets stay secret, keys open what they are for, and who leaves
leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import openai
import pytest

from tests.system.edge import Client
from tests.system.mesh import Mesh, wait_until
from tests.system.test_openai import ask, client_of

Headers = Sequence[tuple[str, str | bytes]]
HELLO: dict[str, Any] = {"model": "soma/auto", "messages": ask("hello")}


@pytest.fixture(scope="module")
def admin(scripted_mesh: Mesh) -> Client:
    return Client.of(scripted_mesh, "acme", "boss", "admin")


def key_of(admin: Client, *models: str) -> str:
    """A new key."""
    secret: str = admin.call("POST", "/v1/keys", {"person": "ada", "models": models}).json["secret"]
    return secret


def post(mesh: Mesh, headers: Headers, path: str = "/v1/chat/completions", asked: object = HELLO) -> tuple[int, bytes]:
    """Headers as they are, twice too."""
    body = json.dumps(asked).encode()
    connection = http.client.HTTPConnection("localhost", mesh.port, timeout=30)
    try:
        connection.putrequest("POST", path)
        for name, value in (*headers, ("content-length", str(len(body)))):
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_key_with_a_stray_byte_is_refused_and_stands_in_no_log(scripted_mesh: Mesh, admin: Client) -> None:
    secret = key_of(admin)
    status, said = post(scripted_mesh, [("authorization", f"Bearer {secret}".encode() + b"\xe9")])
    assert (status, secret.encode() in said) == (401, False)
    logs = [log.read_text(errors="replace") for log in (scripted_mesh.home / "logs").glob("*.log")]
    assert len(logs) > 3 and not any(secret in log for log in logs)


def test_two_keys_at_once_open_nothing(scripted_mesh: Mesh, admin: Client) -> None:
    one, other = key_of(admin), key_of(admin, "soma/slm")
    for headers in (
        [("authorization", f"Bearer {one}"), ("authorization", f"Bearer {other}")],
        [("authorization", f"Bearer {one}, Bearer {other}")],
    ):
        assert post(scripted_mesh, headers)[0] == 401


@pytest.mark.parametrize(
    "path", ["/v1/decide", "/v1/chat:stream", "/v1/models/../keys", "/v1/chat/completions/../../budgets"]
)
def test_no_way_of_writing_a_path_lets_a_key_in_elsewhere(scripted_mesh: Mesh, admin: Client, path: str) -> None:
    secret = key_of(admin)
    lies = [("x-soma-tenant", "globex"), ("x-soma-roles", "admin"), ("x-forwarded-client-cert", "URI=spiffe://x/agent")]
    assert post(scripted_mesh, [("authorization", f"Bearer {secret}"), *lies], path)[0] in (401, 404)


def test_a_key_for_a_name_of_ours_opens_what_that_name_covers_and_nothing_else(
    scripted_mesh: Mesh, admin: Client
) -> None:
    with client_of(scripted_mesh, key_of(admin, "soma/auto")) as auto:
        assert "soma/auto" in [model.id for model in auto.models.list()]
        assert auto.chat.completions.create(**HELLO).choices[0].message.content == "You said: hello"
    with client_of(scripted_mesh, key_of(admin, "soma/embedding")) as vectors:
        assert len(vectors.embeddings.create(model="soma/embedding", input="x").data) == 1
    for bound, asked in (
        ("soma/slm", "soma/premium"),
        ("soma/slm", "scripted-premium"),
        ("soma/embedding", "soma/slm"),
    ):
        secret = key_of(admin, bound)
        named = {"model": asked, "messages": ask("hello")}
        assert post(scripted_mesh, [("authorization", f"Bearer {secret}")], asked=named)[0] == 404


def test_a_busy_model_says_when_to_come_back(scripted_mesh: Mesh, admin: Client) -> None:
    busy: dict[str, Any] = {"model": "soma/auto", "messages": ask("script:busy")}
    with client_of(scripted_mesh, key_of(admin)) as client, pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**busy)
    assert refused.value.response.headers["retry-after"] == "1"


def test_who_hangs_up_at_the_edge_leaves_no_hold_and_no_open_decision(scripted_mesh: Mesh, admin: Client) -> None:
    secret, chance = key_of(admin), random.Random(7)
    for n in range(80):
        asked = {"model": "soma/auto", "messages": ask("script:words=20 script:pace=20"), "stream": n % 2 == 0}
        body = json.dumps(asked).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n"
        whole = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection(("localhost", scripted_mesh.port), timeout=10) as line:
            line.sendall(whole if n % 4 else whole[: chance.randrange(len(whole))])
            line.settimeout(chance.uniform(0.001, 0.1))
            listen(line)
    over = (
        "SELECT (SELECT count(*) FROM soma.holds) AS held, "
        "(SELECT count(*) FROM t_acme.decisions WHERE settle_time IS NULL) AS open"
    )
    wait_until(lambda: scripted_mesh.rows(over) == [{"held": 0, "open": 0}], 30, "the end of all calls")


def listen(line: socket.socket) -> None:
    """What comes until patience ends."""
    with suppress(TimeoutError):
        line.recv(4096)
