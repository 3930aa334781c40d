"""A provider of one's own: added while the mesh runs, answered by, priced; and gone in mid-answer."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.local.ports import free_port
from tests.system.edge import Client, Event, kind, text_of
from tests.system.mesh import Mesh, wait_until

PRICES = ("--price-in", "150000", "--price-out", "600000")


@contextmanager
def fake_provider(port: int, *manners: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "tests.fake_provider", "--port", str(port), *manners])
    try:
        wait_until(lambda: accepts(port), what="the fake provider")
        yield process
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def add(mesh: Mesh, port: int, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return mesh.soma(
        "provider", "add", "fake", "--base-url", f"http://127.0.0.1:{port}/v1", "--key-env", "FAKE_KEY",
        "--model", "fake-1", "--tier", "standard", *words, check=check, FAKE_KEY="sk-secret",
    )  # fmt: skip


def decision(events: list[Event]) -> Event:
    found: Event = [event["decision"] for event in events if "decision" in event][-1]
    return found


@pytest.fixture
def client(mesh: Mesh) -> Client:
    return Client.of(mesh)


def test_a_provider_answers_the_next_turn_and_is_priced_and_when_it_breaks_off_the_local_model_goes_on(
    mesh: Mesh, client: Client
) -> None:
    port = free_port()
    with fake_provider(port, "--words", "12", "--pace-ms", "5"):
        add(mesh, port, *PRICES)
        wait_until(lambda: "fake" in str(client.call("POST", "/v1/decide", {"text": "x"}).json), what="the reload")
        events = client.ask("hello")

    assert decision(events)["provider"] == "fake"
    assert text_of(events).startswith("word1 word2")
    done = events[-1]["done"]
    usage = done["usage"]
    spent = (usage["inputTokens"] * 150_000 + usage["outputTokens"] * 600_000) / 1_000_000
    assert abs(int(done["costMicrousd"]) - spent) <= 1

    with fake_provider(port, "--words", "1000", "--pace-ms", "20") as provider:
        cut = []
        for event in client.stream("POST", "/v1/chat:stream", {"text": "long"}):
            cut.append(event)
            if sum("text" in e for e in cut) == 5:
                provider.kill()
    turn = client.call("GET", f"/v1/{cut[0]['accepted']['turn']}").json
    after = client.ask("and now?")

    assert kind(cut[-1]) == "error"
    assert cut[-1]["error"]["reason"] == "PROVIDER_CUT"
    assert (turn["state"], turn["answer"]) == ("STATE_FAILED", text_of(cut))
    assert int(turn["costMicrousd"]) > 0, "what came was paid for"
    assert decision(after)["provider"] == "local"
    assert kind(after[-1]) == "done"
    mesh.soma("provider", "remove", "fake")


def test_a_key_is_kept_for_the_router_alone_and_shown_nowhere(mesh: Mesh) -> None:
    port = free_port()
    done = add(mesh, port, *PRICES)
    secret = mesh.home / "secrets" / "fake"

    assert secret.read_text().strip() == "sk-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "sk-secret" not in done.stdout + done.stderr + (mesh.home / "providers.toml").read_text()
    assert "sk-secret" not in mesh.last_words()
    mesh.soma("provider", "remove", "fake")
    assert not secret.exists()


def test_a_model_without_a_price_is_refused(mesh: Mesh) -> None:
    done = add(mesh, free_port(), check=False)

    assert done.returncode != 0
    assert "price" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_the_local_model_answers_without_any_network(client: Client) -> None:
    events = client.ask("What is the capital of France?", tier="slm")

    assert decision(events)["provider"] == "local"
    assert kind(events[-1]) == "done"
    assert text_of(events).strip()
    assert events[-1]["done"]["costMicrousd"] == "0"
