"""Brings a Postgres to the shape that the rooms expect: plain SQL files, in order, each once.

`migrations/control` of a room runs once, `migrations/tenant` once in every tenant's schema. They only ever add. What
Postgres does not do is raised as Refused; when it is away, OSError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.common.caller import TENANT

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
LOCK = 0x50A4  # any number, the same for all who migrate
NO = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

LEDGER = """
CREATE SCHEMA IF NOT EXISTS soma;
CREATE TABLE IF NOT EXISTS soma.migrations (
    scope text NOT NULL, room text NOT NULL, name text NOT NULL, time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, room, name)
)
"""
IS_DONE = "SELECT true FROM soma.migrations WHERE scope = $1 AND room = $2 AND name = $3"
MARK_DONE = "INSERT INTO soma.migrations (scope, room, name) VALUES ($1, $2, $3)"
ENTER = "SELECT set_config('search_path', $1, true)"


class Refused(Exception):  # noqa: N818 - an answer of Postgres
    """Postgres did not do what it was asked to. The text is its own."""


async def migrate(admin_url: str, rooms: Sequence[str]) -> None:
    """Make the database if it is missing, then run what has not run yet, for every tenant too. May be repeated."""
    await make_database(admin_url)
    async with administering(admin_url) as conn:
        await conn.execute(LEDGER)
        for room in ("common", *rooms):
            await apply(conn, "control", room, "soma")
        for row in await conn.fetch("SELECT name FROM soma.tenants ORDER BY name"):
            await migrate_tenant(conn, row["name"], rooms)


async def add_tenant(admin_url: str, tenant: str, rooms: Sequence[str]) -> None:
    """Make the tenant's role, schema and tables. May be repeated. ValueError for a name that cannot be one."""
    if not TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} cannot be a tenant: use 2 to 40 of a-z, 0-9 and _, beginning with a letter.")
    async with administering(admin_url) as conn:
        await conn.execute("SELECT soma.make_tenant($1)", tenant)
        await migrate_tenant(conn, tenant, rooms)


async def set_room_password(admin_url: str, room: str, password: str) -> None:
    """Make the login role soma_<room> if it is missing, and set its password."""
    async with administering(admin_url) as conn:
        await conn.execute("SELECT soma.make_room($1, $2)", room, password)


async def migrate_tenant(conn: Connection, tenant: str, rooms: Sequence[str]) -> None:
    for room in ("common", *rooms):
        await apply(conn, f"t_{tenant}", room, f"t_{tenant}, ext")


async def apply(conn: Connection, scope: str, room: str, search_path: str) -> None:
    folder = resources.files("services").joinpath(room, "migrations", "control" if scope == "control" else "tenant")
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".sql") or await conn.fetchval(IS_DONE, scope, room, file.name):
            continue
        async with conn.transaction():
            await conn.execute(ENTER, search_path)
            await conn.execute(file.read_text())
            await conn.execute(MARK_DONE, scope, room, file.name)


async def make_database(admin_url: str) -> None:
    url = urlsplit(admin_url)
    async with administering(urlunsplit(url._replace(path="/postgres"))) as conn:
        name = url.path.lstrip("/")
        if not await conn.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            statement = await conn.fetchval("SELECT format('CREATE DATABASE %I', $1::text)", name)
            await conn.execute(statement)


@asynccontextmanager
async def administering(admin_url: str) -> AsyncIterator[Connection]:
    """A connection of the administrator, alone at this work."""
    async with connected(admin_url) as conn:
        await conn.execute("SELECT pg_advisory_lock($1)", LOCK)
        yield conn


@asynccontextmanager
async def connected(admin_url: str) -> AsyncIterator[Connection]:
    """A connection of the administrator."""
    try:
        conn = await asyncpg.connect(admin_url, timeout=10, command_timeout=60)
        try:
            yield conn
        finally:
            await conn.close()
    except NO as fault:
        raise Refused(str(fault)) from fault
