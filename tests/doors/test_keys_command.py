"""`soma key` and `soma route policy` in the hands of an operator, at a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from services.common import schema
from services.common.api_keys import is_whole
from services.common.modes import Mode
from services.local.__main__ import app
from services.local.fault import Fault
from services.local.ports import free_port
from services.local.stack import open_stack
from tests.stores import running_postgres

ROOMS = ("router",)
ANN = ("--person", "ann")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o755)
    async with running_postgres(folder / "postgres") as url:
        await schema.migrate(url, ROOMS)
        for tenant in ("acme", "globex"):
            await schema.add_tenant(url, tenant, ROOMS)
        yield url


@pytest.fixture
def home(tmp_path: Path, admin_url: str) -> Path:
    """The folder of a mesh that has this Postgres."""
    home = tmp_path / "soma"
    open_stack(home, free_port(), Mode.TEST)
    url, passwords = urlsplit(admin_url), json.loads((home / "passwords.json").read_text())
    point(home / "run/ports.json", postgres=url.port)
    point(home / "passwords.json", postgres=url.password)
    asyncio.run(schema.set_room_password(admin_url, "router", passwords["soma_router"]))
    return home


def point(file: Path, **facts: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def soma(home: Path, *words: str, columns: int = 250) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [*words, "--data", str(home)])


def said(home: Path, *words: str) -> str:
    result = soma(home, *words)
    assert result.exit_code == 0, result.exception
    return result.stdout


def keys(home: Path, tenant: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said(home, "key", "list", "--tenant", tenant, "--json"))
    return found


async def rows(admin_url: str, sql: str) -> list[tuple[Any, ...]]:
    conn = await asyncpg.connect(admin_url)
    try:
        return [tuple(row) for row in await conn.fetch(sql)]
    finally:
        await conn.close()


def test_create_prints_the_key_alone_and_revoke_ends_it(home: Path, admin_url: str) -> None:
    words = ("--tenant", "globex", "--person", "ann", "--team", "red", "--budget-usd", "2.50", "--title", "CI")
    made = soma(home, "key", "create", *words, "--model", "soma/auto", "--model", "gpt-4o", "--days", "2")
    secret = made.stdout.strip()
    assert is_whole(secret), made.exception
    assert made.stdout == f"{secret}\n"
    name = made.stderr.split()[0]
    [kept] = keys(home, "globex")
    assert (kept["name"], kept["person"], kept["team"]) == (name, "ann@globex", "red")
    assert (kept["models"], kept["budgetMicrousd"], kept["title"]) == (["soma/auto", "gpt-4o"], "2500000", "CI")
    assert "expireTime" in kept
    assert "secret" not in kept
    shown = said(home, "key", "list", "--tenant", "globex")
    assert name in shown
    assert "$2.50" in shown
    assert secret[20:] not in shown + made.stderr

    assert "is revoked" in said(home, "key", "revoke", name.removeprefix("keys/"), "--tenant", "globex")
    assert "revokeTime" in keys(home, "globex")[0]
    told = asyncio.run(rows(admin_url, "SELECT type, payload->>'subject', payload->>'resource' FROM soma.outbox"))
    assert ("key.created", "system:operator", name) in told
    assert ("key.revoked", "system:operator", name) in told


def test_a_subject_is_taken_as_it_is_and_a_name_is_of_the_tenant(home: Path) -> None:
    for person in ("eve", "eve@elsewhere"):
        said(home, "key", "create", "--person", person)
    assert [key["person"] for key in keys(home, "acme")][:2] == ["eve@elsewhere", "eve@acme"]


def test_a_key_is_nobodys_unless_it_is_said_whose(home: Path) -> None:
    before = len(keys(home, "acme"))
    assert soma(home, "key", "create").exit_code == 2
    assert len(keys(home, "acme")) == before


def test_the_name_of_a_key_stays_on_one_line_of_a_usual_terminal(home: Path) -> None:
    words = ("--person", f"{'long' * 12}@elsewhere", "--team", "red" * 8, "--model", "soma/auto", "--title", "x" * 90)
    name = soma(home, "key", "create", *words, "--budget-usd", "1").stderr.split()[0]
    for columns in (80, 250):
        shown = soma(home, "key", "list", columns=columns).stdout
        assert any(line.split()[:1] == [name] for line in shown.splitlines()), shown
        assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("key", "create", *ANN, "--tenant", "nobody"), "does not serve the tenant nobody"),
        (("key", "create", *ANN, "--tenant", "NO!"), "cannot be a tenant"),
        (("key", "create", *ANN, "--budget-usd", "nan"), "--budget-usd"),
        (("key", "create", *ANN, "--budget-usd", "-1"), "--budget-usd"),
        (("key", "create", *ANN, "--budget-usd", "1e99"), "--budget-usd"),
        (("key", "create", "--person", "x" * 300), "key.person"),
        (("key", "create", "--person", ""), "--person is empty"),
        (("key", "create", "--person", " @acme"), "--person is empty"),
        (("key", "create", *ANN, "--model", "gpt-x"), "'gpt-x' names nothing here"),
        (("key", "create", *ANN, "--title", "\udcff"), "no text"),
        (("key", "revoke", "keys/x"), "no such key"),
        (("route", "policy", "activate", "999"), "no such version"),
        (("route", "policy", "activate", "x"), "no such version"),
        (("route", "policy", "rollback", "--tenant", "globex"), "No version held before"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence_and_done_to_nobody(
    home: Path, words: tuple[str, ...], says: str
) -> None:
    result = soma(home, *words)
    assert isinstance(result.exception, Fault), result.exception
    assert says in str(result.exception)
    assert result.stdout == ""


def test_a_mesh_that_is_down_is_named(tmp_path: Path) -> None:
    open_stack(tmp_path / "soma", free_port(), Mode.TEST)
    for words in (("key", "create", *ANN), ("key", "list"), ("route", "policy", "rollback")):
        assert "The mesh is down" in str(soma(tmp_path / "soma", *words).exception)


def test_a_version_whose_learned_part_no_router_could_read_is_not_activated(home: Path, admin_url: str) -> None:
    learned = "INSERT INTO soma.learned (tenant, digest, body) VALUES ('globex', sha256('rubbish'), 'rubbish')"
    columns = "tenant, version, body, digest, learned, author, note"
    values = "'globex', 1, '', sha256(''), sha256('rubbish'), 'x', 'y'"
    asyncio.run(rows(admin_url, learned))
    asyncio.run(rows(admin_url, f"INSERT INTO soma.policies ({columns}) VALUES ({values})"))
    result = soma(home, "route", "policy", "activate", "1", "--tenant", "globex")
    assert "Its learned part cannot be read" in str(result.exception)


def test_a_roll_back_is_one_command(home: Path, admin_url: str) -> None:
    columns, values = "tenant, version, body, digest, author, note", "'acme', 1, '', sha256(''), 'x', 'y'"
    asyncio.run(rows(admin_url, f"INSERT INTO soma.policies ({columns}) VALUES ({values})"))
    assert "policies/1 (y) holds for acme" in said(home, "route", "policy", "activate", "1")
    assert "policies/1" in said(home, "route", "policy", "list")
    assert "policies/0 holds for acme" in said(home, "route", "policy", "rollback")
    versions = json.loads(said(home, "route", "policy", "list", "--json"))
    assert [(version["name"], version.get("active", False)) for version in versions] == [
        ("policies/1", False), ("policies/0", True),
    ]  # fmt: skip
