"""The `soma` command in the hands of a person: what it prints, where, and what it says when it cannot."""

from __future__ import annotations

import base64
import json
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from services.local.ports import free_port
from tests.system.mesh import Mesh, wait_until

SLOW = "script:words=60 script:pace=50"
LONG = "script:words=3000 script:pace=50"
WHOLE = " ".join(f"word{n}" for n in range(1, 61))


def begin_chat(mesh: Mesh, text: str) -> subprocess.Popen[bytes]:
    """A chat after the first letters of its answer."""
    chat = subprocess.Popen(
        mesh.command("chat", text), env=mesh.surroundings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert chat.stdout is not None
    assert chat.stdout.read(4) == b"word"
    return chat


def test_token_prints_the_token_alone(scripted_mesh: Mesh) -> None:
    token = scripted_mesh.token("globex", "ada", "admin", "auditor")
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert (claims["sub"], claims["tenant"], claims["roles"]) == ("ada@globex", "globex", ["admin", "auditor"])
    assert claims["iss"] == f"{scripted_mesh.url}/oidc"


def test_chat_prints_the_answer_on_stdout_and_what_it_cost_on_stderr(scripted_mesh: Mesh) -> None:
    chat = scripted_mesh.soma("chat", "hello")
    assert chat.stdout == "You said: hello\n"
    assert "scripted/scripted-standard" in chat.stderr
    assert "$0.00" in chat.stderr
    assert "--conversation conversations/" in chat.stderr


def test_chat_goes_on_with_a_conversation(scripted_mesh: Mesh) -> None:
    first = scripted_mesh.soma("chat", "one").stderr.split()
    name = first[first.index("--conversation") + 1]
    assert name in scripted_mesh.soma("chat", "two", "--conversation", name).stderr


@pytest.mark.parametrize("part", ["edge", "agent"])
def test_chat_ends_with_the_whole_answer_or_the_reason_when_a_part_is_killed_in_the_middle(
    scripted_mesh: Mesh, part: str
) -> None:
    chat = begin_chat(scripted_mesh, SLOW if part == "edge" else LONG)
    scripted_mesh.kill(part)
    out, error = chat.communicate(timeout=60)
    if part == "edge":
        assert f"word{out.decode()}" == f"{WHOLE}\n"
    else:
        assert chat.returncode == 1
        assert b"INTERRUPTED" in error
    wait_until(lambda: scripted_mesh.status()["missing"] == "", what="the mesh is whole")


def test_ctrl_c_stops_the_answer_and_the_turn(scripted_mesh: Mesh) -> None:
    chat = begin_chat(scripted_mesh, LONG)
    chat.send_signal(signal.SIGINT)
    chat.communicate(timeout=20)
    assert chat.returncode == 130
    newest = "SELECT state FROM t_acme.turns ORDER BY create_time DESC LIMIT 1"
    wait_until(lambda: "CANCELLED" in str(scripted_mesh.rows(newest)).upper(), what="the turn is cancelled")


@pytest.mark.parametrize(
    "words", [("chat", "hello"), ("status",), ("run", "agent"), ("tenant", "add", "initech")], ids=" ".join
)
def test_a_mesh_that_is_down_is_one_sentence(own_mesh: Callable[[], Mesh], words: tuple[str, ...]) -> None:
    mesh = own_mesh()
    mesh.down()
    refused = mesh.soma(*words, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "The mesh is down. Start it with: soma up\n"


@pytest.mark.parametrize("words", [("status",), ("chat", "x"), ("token",), ("provider", "list")], ids=" ".join)
def test_a_folder_without_a_mesh_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = Mesh(tmp_path / "none", free_port()).soma(*words, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("There is no mesh in ")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_tenant_that_is_added_can_chat_at_once(scripted_mesh: Mesh) -> None:
    scripted_mesh.soma("tenant", "add", "hooli")
    assert scripted_mesh.soma("chat", "hello", "--tenant", "hooli").stdout == "You said: hello\n"
    refused = scripted_mesh.soma("tenant", "add", "Not-A-Name", check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_a_providers_key_is_for_its_owners_eyes_and_goes_with_it(scripted_mesh: Mesh) -> None:
    words = ("--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--price-in", "1", "--price-out", "2")
    scripted_mesh.soma("provider", "add", "mine", *words, "--key-env", "MY_KEY", MY_KEY="secret-of-mine")
    secret = scripted_mesh.home / "secrets/mine"
    assert secret.read_text() == "secret-of-mine"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "secret-of-mine" not in (scripted_mesh.home / "providers.toml").read_text()
    scripted_mesh.soma("provider", "remove", "mine")
    assert not secret.exists()
    assert "mine" not in scripted_mesh.soma("provider", "list").stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("mine", "--base-url", "http://127.0.0.1:1/v1", "--model", "no-such-model"), "Nobody knows what"),
        (("mine", "--base-url", "htp://x", "--model", "gpt-4o"), "base_url"),
        (("mine", "--base-url", "http://x/v1", "--model", "gpt-4o", "--key-env", "NOT_SET"), "NOT_SET is not set"),
        (("mine", "--base-url", "http://x/v1", "--model", "gpt-4o", "--price-in", "1"), "both prices"),
        (("Mine!", "--base-url", "http://x/v1", "--model", "gpt-4o"), "cannot be a provider"),
        (("local", "--base-url", "http://x/v1", "--model", "gpt-4o"), "taken by the mesh"),
        (("mine", "--model", "gpt-4o"), "--base-url"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_provider_that_the_router_could_not_use_is_refused(
    scripted_mesh: Mesh, words: tuple[str, ...], sentence: str
) -> None:
    refused = scripted_mesh.soma("provider", "add", *words, check=False)
    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "mine" not in scripted_mesh.soma("provider", "list").stdout


def test_logs_shows_one_part_or_all_and_names_those_there_are(scripted_mesh: Mesh) -> None:
    assert "serving" in scripted_mesh.soma("logs", "router").stdout
    everything = scripted_mesh.soma("logs", "--lines", "100000").stdout
    assert {line.split()[0] for line in everything.splitlines()} >= {"router", "supervisor"}
    refused = scripted_mesh.soma("logs", "nothing", check=False)
    assert refused.returncode == 1
    assert "There are" in refused.stderr


def test_reset_leaves_nothing_of_ours_and_all_of_others(own_mesh: Callable[[], Mesh]) -> None:
    mesh = own_mesh()
    mesh.down()
    (mesh.home / "mine.txt").write_text("x")
    mesh.soma("reset", "--yes")
    assert [path.name for path in mesh.home.iterdir()] == ["mine.txt"]


def test_wrong_usage_is_exit_code_two(tmp_path: Path) -> None:
    assert Mesh(tmp_path, free_port()).soma("up", "--port", "many", check=False).returncode == 2
