"""The real Postgres that comes with a wheel, as we start it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from services.local.fault import Fault
from services.local.postgres import forget_dead_server, prepare
from tests.stores import running_postgres

WRITERS = 8
CUT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""How a connection says that its server has gone."""


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


def server_of(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split("\n", 1)[0])


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    conn = await asyncpg.connect(url, timeout=5)
    try:
        yield conn
    finally:
        with contextlib.suppress(*CUT):
            await conn.close(timeout=1)


async def test_it_wants_a_password_and_listens_on_loopback_alone(folder: Path) -> None:
    async with running_postgres(folder) as url, connected(url) as conn:
        assert await conn.fetchval("SHOW listen_addresses") == "127.0.0.1"
        assert await conn.fetchval("SHOW unix_socket_directories") == ""
        assert await conn.fetchval("SHOW password_encryption") == "scram-sha-256"
        assert await conn.fetchval("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
        user, _, rest = url.partition("@")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"{user.rpartition(':')[0]}:wrong@{rest}", timeout=5)


async def test_it_runs_below_a_folder_that_only_its_owner_may_enter(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    async with running_postgres(tmp_path / "mine/postgres") as url, connected(url) as conn:
        assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to be someone else")
async def test_where_namespaces_are_barred_root_runs_it_as_nobody_below_a_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("setpriv", "ls"):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    (tmp_path / "mine").mkdir(mode=0o700)
    folder = tmp_path / "mine/postgres"
    async with running_postgres(folder) as url, connected(url) as conn:
        assert await conn.fetchval("SELECT 1") == 1
        assert psutil.Process(server_of(folder)).username() == "nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to be someone else")
async def test_where_both_ways_are_barred_root_is_told_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Fault, match=r"^Postgres does not run as root[^\n]+$"):
        async with running_postgres(tmp_path / "postgres"):
            pass


async def test_what_postgres_refuses_is_one_sentence_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"^Postgres cannot use the folder [^\n]+ is empty\. [^\n]+$"):
        await prepare(tmp_path / "postgres", password="")


async def test_a_lock_of_a_dead_server_whose_number_was_given_away_is_forgotten(folder: Path) -> None:
    async with running_postgres(folder):
        pass
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n")
    forget_dead_server(folder)
    assert not (folder / "postmaster.pid").exists()


async def test_a_lock_of_a_living_server_is_kept(folder: Path) -> None:
    async with running_postgres(folder):
        forget_dead_server(folder)
        assert (folder / "postmaster.pid").exists()


async def test_a_start_that_broke_off_half_way_does_no_harm(folder: Path) -> None:
    half = folder.with_name("postgres.half")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with running_postgres(folder) as url, connected(url) as conn:
        assert await conn.fetchval("SELECT current_database()") == "soma"


async def acknowledged_and_kept(folder: Path, durably: bool) -> tuple[int, int]:
    """Kill the server amid writes; how many rows were acknowledged, and how many of those are there afterwards."""
    acknowledged: list[int] = []
    async with running_postgres(folder) as url:
        async with connected(url) as conn:
            await conn.execute("CREATE TABLE written (n bigint PRIMARY KEY)")
        enough = asyncio.Event()
        writers = [asyncio.create_task(write(url, start, durably, acknowledged, enough)) for start in range(WRITERS)]
        await asyncio.wait_for(enough.wait(), 60)
        family = [psutil.Process(server_of(folder)), *psutil.Process(server_of(folder)).children()]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        await asyncio.gather(*writers)
    async with running_postgres(folder) as url, connected(url) as conn:
        kept = {row["n"] for row in await conn.fetch("SELECT n FROM written")}
    return len(acknowledged), len(kept.intersection(acknowledged))


async def write(url: str, start: int, durably: bool, acknowledged: list[int], enough: asyncio.Event) -> None:
    """Insert one row a transaction until the server is gone."""
    with contextlib.suppress(*CUT):
        async with connected(url) as conn:
            await conn.execute(f"SET synchronous_commit = {'on' if durably else 'off'}")
            for n in range(start, 1_000_000, WRITERS):
                await conn.execute("INSERT INTO written VALUES ($1)", n)
                acknowledged.append(n)
                if len(acknowledged) >= 2000:
                    enough.set()


async def test_kill_nine_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    acknowledged, kept = await acknowledged_and_kept(folder, durably=True)
    assert acknowledged >= 2000
    assert kept == acknowledged


async def test_the_test_above_can_fail_without_synchronous_commit_rows_are_lost(tmp_path: Path) -> None:
    for attempt in range(5):
        acknowledged, kept = await acknowledged_and_kept(tmp_path / str(attempt), durably=False)
        if kept < acknowledged:
            return
    pytest.fail("no acknowledged row was lost in five crashes: this machine cannot show the difference")
