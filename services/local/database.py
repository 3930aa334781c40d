"""This mesh's database: brought up to date at each start, given tenants by whoever asks."""

from __future__ import annotations

from services.common import schema
from services.common.modes import ALLOWS
from services.local import acts, postgres
from services.local.fault import Fault
from services.local.stack import ROOMS, Stack, tenants_file

TENANTS = ("acme", "globex")


async def bring_up_to_date(stack: Stack) -> None:
    """Tables, the rooms' logins, tenants for those who develop, and what the tenants' audit trails do not know yet. May
    be repeated. Fault with Postgres' own words."""
    admin_url = admin_url_of(stack)
    try:
        await schema.migrate(admin_url, ROOMS)
        for room in ROOMS:
            await schema.set_room_password(admin_url, room, stack.passwords[f"soma_{room}"])
        if ALLOWS[stack.mode].dev_issuer:
            for tenant in TENANTS:
                await make_tenant(stack, tenant)
        await acts.tell_mode(stack)
        await acts.tell_kept(stack)
    except (schema.Refused, OSError) as error:
        raise Fault(f"The database cannot be brought up to date: {error}. See: soma logs postgres") from error


async def add_tenant(stack: Stack, tenant: str) -> None:
    """Make a tenant, or bring its tables up to date. Fault when it cannot be done."""
    try:
        await make_tenant(stack, tenant)
    except ValueError as error:
        raise Fault(str(error)) from error
    except OSError as error:
        raise Fault("The mesh is down. Start it with: soma up") from error
    except schema.Refused as error:
        raise Fault(f"Postgres refused the tenant: {error}.") from error


async def make_tenant(stack: Stack, tenant: str) -> None:
    """The tenant's role, schema and tables, and its accounts on the sign-in page. ValueError for what is no name."""
    await schema.add_tenant(admin_url_of(stack), tenant, ROOMS)
    file = tenants_file(stack.home)
    known = file.read_text().split() if file.exists() else []
    if tenant not in known:
        file.write_text("".join(f"{name}\n" for name in (*known, tenant)))


def admin_url_of(stack: Stack) -> str:
    return postgres.url(stack.ports["postgres"], stack.passwords["postgres"])
