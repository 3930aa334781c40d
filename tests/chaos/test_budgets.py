"""Budgets under kill -9: of a process that holds, and of Postgres. At each look nothing is above its cap; after the
leases nothing is held; each call that was settled is in the ledger once."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
import pytest_asyncio

from services.common import schema
from services.common.clock import SystemClock, new_id
from services.common.db import open_database
from services.common.postgres import store_errors
from services.common.telemetry import begin_logs
from services.router.budgets.books import Books
from services.router.budgets.room import Amount
from tests.booking import ADD, call_of, opening_of
from tests.chaos.scene import WITHIN_S, Server, running_server, until
from tests.chaos.spending import AT_ONCE, spend
from tests.counting import Books as Rows
from tests.counting import Law, read

pytestmark = pytest.mark.asyncio(loop_scope="module")
LEASE_S = 1.0
CAP = 300
TABLES = "soma.budgets, soma.ledgers, soma.accounts, soma.budget_spend, soma.holds, soma.ledger"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    begin_logs("test")
    async with running_server(tmp_path_factory.mktemp("postgres") / "postgres") as server:
        await schema.migrate(server.admin_url, ["router"])
        await schema.set_room_password(server.admin_url, "router", "test")
        await schema.add_tenant(server.admin_url, "acme", ["router"])
        yield server


class Watch:
    """Looks at the books for as long as a test lasts, and lets the caps grow slowly: at each moment calls are admitted,
    and refused."""

    def __init__(self, server: Server) -> None:
        self.server, self.law, self.looks, self.over = server, Law(), 0, False

    async def look(self) -> None:
        while not self.over:
            with suppress(*store_errors.AWAY):
                conn = await asyncpg.connect(self.server.admin_url, timeout=5)
                try:
                    while not self.over:
                        await self.look_once(conn)
                finally:
                    conn.terminate()
            await asyncio.sleep(0.05)

    async def look_once(self, conn: asyncpg.Connection) -> None:
        rows = await read(conn)
        self.law.check(rows)
        self.looks += 1
        if self.looks % 10 == 0:
            await conn.execute("UPDATE soma.budgets SET microusd = microusd + 60")

    async def execute(self, statement: str, *values: object) -> None:
        conn = await asyncpg.connect(self.server.admin_url)
        await conn.execute(statement, *values)
        await conn.close()

    async def rows(self) -> Rows:
        conn = await asyncpg.connect(self.server.admin_url)
        try:
            return await read(conn)
        finally:
            await conn.close()


@pytest_asyncio.fixture(loop_scope="module")
async def watched(server: Server) -> AsyncIterator[Watch]:
    """Caps of the tenant and of each person, and somebody who looks at them all the time."""
    watch = Watch(server)
    await watch.execute(f"TRUNCATE {TABLES} CASCADE")
    for scope, whose, tokens in (("tenant", "", None), ("user", "*", 10**6)):
        await watch.execute(ADD, "acme", new_id(), scope, whose, "total", False, "", CAP, tokens, None)
    task = asyncio.create_task(watch.look())
    yield watch
    watch.over = True
    await task


@asynccontextmanager
async def spending(server: Server, folder: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "tests.chaos.spending", server.url("router"), folder, str(LEASE_S))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def settled_lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout
    lines: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        while len(lines) < count:
            line = (await process.stdout.readline()).decode()
            assert line, "it has ended"
            lines += [line.strip()] if len(line.strip()) == 36 else []
    return lines


async def check_end(server: Server, watch: Watch, keys: str, settled: list[str]) -> None:
    """What must be true when nobody runs any more and the leases have run out."""
    async with open_database(server.url("router"), keys, SystemClock()) as db:
        books = Books(db, lease_s=LEASE_S)

        async def nothing_is_held() -> bool:
            await books.admit(opening_of(call_of("zoe"), Amount(0, 0, 0)))
            rows = await watch.rows()
            return all(row["subject"] == "zoe" for row in rows.holds)

        await until(nothing_is_held)
    rows = await watch.rows()
    rows.check_counters()
    watch.law.check(rows)
    counts = Counter(str(row["call_id"]) for row in rows.ledger if row["kind"] == "settle")
    assert set(counts.values()) == {1}
    assert not set(settled) - set(counts)
    assert watch.looks > 5


async def test_the_law_holds_and_holds_end_when_a_process_that_holds_is_killed(server: Server, watched: Watch) -> None:
    keys, settled = f"file://{server.folder.parent / 'keys'}", list[str]()
    for _ in range(2):
        async with spending(server, keys) as process:
            settled += await settled_lines(process, 60)
            process.kill()
            assert process.stdout
            settled += [line for line in (await process.stdout.read()).decode().split() if len(line) == 36]
    assert (await watched.rows()).holds, "it was killed while it held"
    await check_end(server, watched, keys, settled)


async def test_the_law_holds_and_each_call_is_settled_once_when_postgres_is_killed(
    server: Server, watched: Watch
) -> None:
    keys, settled = f"file://{server.folder.parent / 'keys'}", list[str]()
    async with open_database(server.url("router"), keys, SystemClock()) as db:
        books = (Books(db, lease_s=LEASE_S), Books(db, lease_s=LEASE_S))
        spenders = [asyncio.create_task(spend(books[i % 2], i, settled, forgets=False)) for i in range(AT_ONCE)]
        keepers = [asyncio.create_task(one.keep()) for one in books]
        for _ in range(2):
            await until(more_than(settled, len(settled) + 40))
            await server.end(signal.SIGKILL)
            await server.start()
        await until(more_than(settled, len(settled) + 40))
        for task in (*spenders, *keepers):
            task.cancel()
        await asyncio.wait([*spenders, *keepers])
        for one in books:
            await one.drain(5)
    await check_end(server, watched, keys, settled)


def more_than(settled: list[str], count: int):  # type: ignore[no-untyped-def]
    async def is_so() -> bool:
        return len(settled) > count

    return is_so
