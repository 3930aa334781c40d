"""The database brought up to date: tables, the rooms' logins, and tenants for those who develop."""

from __future__ import annotations

import asyncpg

from services.common import schema
from services.common.modes import ALLOWS
from services.local import postgres
from services.local.fault import Fault
from services.local.stack import ROOMS, Stack, tenants_file

TENANTS = ("acme", "globex")
REFUSALS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


async def furnish(stack: Stack) -> None:
    """May be repeated. Fault with Postgres' own words."""
    try:
        await schema.migrate(admin_url(stack), ROOMS)
        for room in ROOMS:
            await schema.set_room_password(admin_url(stack), room, stack.passwords[f"soma_{room}"])
        if ALLOWS[stack.mode].dev_issuer:
            for tenant in TENANTS:
                await add_tenant(stack, tenant)
    except REFUSALS as error:
        raise Fault(f"The database cannot be brought up to date: {error}. See: soma logs postgres") from error


async def add_tenant(stack: Stack, tenant: str) -> None:
    """The tenant's role, schema and tables, and its accounts on the sign-in page. ValueError for what is no name."""
    await schema.add_tenant(admin_url(stack), tenant, ROOMS)
    file = tenants_file(stack.home)
    known = file.read_text().split() if file.exists() else []
    if tenant not in known:
        file.write_text("".join(f"{name}\n" for name in (*known, tenant)))


def admin_url(stack: Stack) -> str:
    return postgres.url(stack.ports["postgres"], stack.passwords["postgres"])
