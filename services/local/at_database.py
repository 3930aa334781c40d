"""What commands do at the database of a mesh that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from services.local.fault import Fault
from services.local.stack import Stack

if TYPE_CHECKING:
    from services.common.caller import Caller
    from services.common.db import Database

Result = TypeVar("Result")


def operator(tenant: str = "") -> Caller:
    """Fault for what cannot be the name of a tenant."""
    from services.common.caller import TENANT, Caller

    if tenant and not TENANT.fullmatch(tenant):
        raise Fault(f"{tenant!r} cannot be a tenant: use 2 to 40 of a-z, 0-9 and _, beginning with a letter.")
    return Caller.system("operator", tenant)


def log_url(stack: Stack) -> str:
    """What the workers are told."""
    from services.local.parts import workers_part

    return str(workers_part(stack).environment.get("SOMA_LOG_URL", ""))


@asynccontextmanager
async def opened(stack: Stack, room: str = "workers") -> AsyncIterator[Database]:
    """With the room's login. ConnectionError at once when the mesh is down: a room would wait for it."""
    from services.common import schema
    from services.common.clock import SystemClock
    from services.common.db import open_database
    from services.local.database import admin_url_of
    from services.local.parts import database_url

    async with schema.connected(admin_url_of(stack)):
        """It answers."""
    async with open_database(database_url(stack, room), stack.keys_url, SystemClock(), connections=4) as db:
        yield db


def at_database(work: Coroutine[Any, Any, Result]) -> Result:
    """Fault when the database or the log is away, or refuses."""
    from services.common import schema
    from services.common.errors import Refusal

    try:
        return asyncio.run(work)
    except schema.Refused as refused:
        raise Fault(f"Postgres refused: {refused}.") from refused
    except Refusal as refusal:
        raise Fault(str(refusal)) from refusal
    except (ConnectionError, TimeoutError) as error:
        raise Fault("The mesh is down. Start it with: soma up") from error
