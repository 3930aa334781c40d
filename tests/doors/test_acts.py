"""What the operator does reaches the trails of the tenants concerned: at once, or when the database is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from services.common import schema
from services.common.modes import Mode
from services.local import acts
from services.local.acts import acting
from services.local.fault import Fault
from services.local.ports import free_port
from services.local.stack import Stack, open_stack
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder = tmp_path_factory.mktemp("acts")
    folder.chmod(0o755)
    async with running_postgres(folder / "postgres") as url:
        await schema.migrate(url, ())
        for tenant in ("acme", "globex"):
            await schema.add_tenant(url, tenant, ())
        yield url


@pytest.fixture
def home(tmp_path: Path) -> Path:
    open_stack(tmp_path / "soma", free_port(), Mode.TEST)
    return tmp_path / "soma"


def stack_of(home: Path, admin_url: str, mode: Mode = Mode.TEST) -> Stack:
    """The mesh of the folder, with that Postgres."""
    url = urlsplit(admin_url)
    assert url.port and url.password
    return Stack(home, {"postgres": url.port}, {"postgres": url.password}, mode)


def point(home: Path, stack: Stack) -> None:
    """Let commands find that Postgres."""
    for name, facts in (("run/ports.json", stack.ports), ("passwords.json", stack.passwords)):
        known = json.loads((home / name).read_text())
        (home / name).write_text(json.dumps(known | dict(facts)))


@asynccontextmanager
async def told(admin_url: str, *, topic: str = "agent.audit") -> AsyncIterator[list[dict[str, Any]]]:
    """What is told inside, once it is over."""
    conn, found = await asyncpg.connect(admin_url), list[dict[str, Any]]()
    try:
        before = await conn.fetchval("SELECT coalesce(max(seq), 0) FROM soma.outbox")
        yield found
        sql = "SELECT payload FROM soma.outbox WHERE seq > $1 AND aggregatetype = $2 ORDER BY seq"
        found += [json.loads(row["payload"]) for row in await conn.fetch(sql, before, topic)]
    finally:
        await conn.close()


def do(home: Path, action: str = "peer.added", tenant: str = "") -> None:
    with acting(home, action, "peers/other", tenant):
        pass


async def test_an_act_on_the_mesh_is_told_to_every_tenant_as_the_operators(admin_url: str, home: Path) -> None:
    point(home, stack_of(home, admin_url))
    async with told(admin_url) as rows:
        await asyncio.to_thread(do, home)
    assert [(row["tenant"], row["action"], row["resource"], row["subject"], row["outcome"]) for row in rows] == [
        (tenant, "peer.added", "peers/other", "system:operator", "done") for tenant in ("acme", "globex")
    ]


async def test_an_act_on_one_tenant_is_told_to_that_one(admin_url: str, home: Path) -> None:
    point(home, stack_of(home, admin_url))
    async with told(admin_url) as rows:
        await asyncio.to_thread(do, home, "tenant.added", "acme")
    assert [row["tenant"] for row in rows] == ["acme"]


async def test_what_failed_is_no_act(admin_url: str, home: Path) -> None:
    point(home, stack_of(home, admin_url))

    def fail() -> None:
        with acting(home, "peer.added", "peers/other"):
            raise Fault("no")

    async with told(admin_url) as rows:
        with pytest.raises(Fault, match="no"):
            await asyncio.to_thread(fail)
    assert rows == []
    assert list((home / "run/acts").iterdir()) == []


async def test_what_is_done_while_the_mesh_is_down_is_told_when_it_is_up(admin_url: str, home: Path) -> None:
    async with told(admin_url) as rows:
        await asyncio.to_thread(do, home)
        await asyncio.to_thread(do, home, "peer.removed")
    assert rows == []
    async with told(admin_url) as rows:
        await acts.tell_kept(stack_of(home, admin_url))
        await acts.tell_kept(stack_of(home, admin_url))
    assert [(row["tenant"], row["action"]) for row in rows] == [
        ("acme", "peer.added"), ("globex", "peer.added"), ("acme", "peer.removed"), ("globex", "peer.removed"),
    ]  # fmt: skip


async def test_another_mode_than_last_time_is_an_event_and_an_audit_event_for_each_tenant(
    admin_url: str, home: Path
) -> None:
    async with told(admin_url, topic="mode.changed") as events, told(admin_url) as audit:
        for mode in (Mode.DEVELOPER, Mode.DEVELOPER, Mode.TEST):
            await acts.tell_mode(stack_of(home, admin_url, mode))
    assert [(event["tenant"], event.get("old"), event["new"]) for event in events] == [
        ("acme", None, "DEVELOPER"), ("globex", None, "DEVELOPER"),
        ("acme", "DEVELOPER", "TEST"), ("globex", "DEVELOPER", "TEST"),
    ]  # fmt: skip
    assert [(row["action"], row["resource"]) for row in audit] == [
        ("mode.changed", f"modes/{mode}") for mode in ("DEVELOPER", "DEVELOPER", "TEST", "TEST")
    ]
