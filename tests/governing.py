"""What tests of policies, keys and providers stand on: a tenant of their own, and its administrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from time import monotonic

from prometheus_client import CollectorRegistry

from services.common import schema
from services.common.background import alongside
from services.common.cache import open_cache
from services.common.clock import SystemClock
from services.common.db import Database, open_database
from services.common.learning.posterior import posterior_of
from services.common.learning.prior import shipped
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.router.policies.held import Policies
from tests.house import ROOMS, House, Person

SOON_S = 1.0
"""What a change may take until it holds everywhere."""
PAUSE_S = 0.01
NUMBERS = count(1)


async def new_admin(house: House, name: str = "gov") -> Person:
    """The administrator of a tenant that nobody else has."""
    tenant = f"{name}{next(NUMBERS)}"
    await schema.add_tenant(house.admin_url, tenant, ROOMS)
    return house.person(tenant, "admin", ("admin",))


async def within(seconds: float, is_so: Callable[[], Awaitable[bool]]) -> None:
    """Until it is so. TimeoutError when a look that began later still says no, not counting what a pause took too long:
    this process stood still then, and did not look."""
    began = monotonic()
    over = began + seconds
    while not await is_so():
        if began >= over:
            raise TimeoutError(f"not so within {seconds} s")
        paused = monotonic()
        await asyncio.sleep(PAUSE_S)
        began = monotonic()
        over += began - paused - PAUSE_S


@asynccontextmanager
async def database(house: House, room: str = "router") -> AsyncIterator[Database]:
    """With the room's own login."""
    async with open_database(*house.store(room), SystemClock(), connections=4) as db:
        yield db


@asynccontextmanager
async def policies(house: House, cache_url: str = "") -> AsyncIterator[tuple[Policies, CollectorRegistry]]:
    """What a router holds in memory, with its metrics."""
    registry, prior = CollectorRegistry(), shipped()
    async with AsyncExitStack() as doors:
        db = await doors.enter_async_context(database(house))
        url = cache_url or house.environment["router"]["SOMA_CACHE_URL"]
        cache = await doors.enter_async_context(open_cache(url))
        held = Policies(db, cache, Sight(Tracer(0.0), registry), lambda learned: posterior_of(learned, prior))
        await doors.enter_async_context(alongside(held.listen(), name="listen"))
        await doors.enter_async_context(alongside(held.look(), name="look"))
        yield held, registry
