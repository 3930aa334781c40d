"""Those who hang up, at any moment and by any door: no place, no hold and no decision is left behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody

from services.common import schema
from services.common.testing import refused
from soma.router.v1.completions_service_pb2 import CreateChatCompletionRequest
from soma.router.v1.completions_service_pb2_grpc import CompletionsServiceStub
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Hints, Message
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider
from tests.house import ROOMS, House
from tests.rpc.test_router import Asker

pytestmark = pytest.mark.asyncio(loop_scope="session")
TENANT = "hasty"
RUNNING, QUEUED = 6, 10
HANG_UPS, AT_ONCE, LATEST_S = 500, 24, 0.2
PROVIDERS = f"""
[[provider]]
name = "hasty"
base_url = "{{url}}"
running = {RUNNING}
queued = {QUEUED}
  [[provider.model]]
  name = "gpt-x"
  tier = "premium"
  price_in = 1_000_000
  price_out = 2_000_000
  window = 4000
"""


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(house: House) -> AsyncIterator[FakeProvider]:
    """A provider with few places, and a tenant whose calls go there."""
    file, key = house.folder / "providers.toml", house.folder / "secrets" / "hasty"
    await schema.add_tenant(house.admin_url, TENANT, ROOMS)
    async with open_fake_provider() as provider:
        key.write_text("sk-1")
        file.write_text(PROVIDERS.format(url=provider.base_url))
        await until_there(house, 1)
        yield provider
        file.unlink()
        key.unlink()
        await until_there(house, 0)


async def until_there(house: House, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(c.provider == "hasty" for c in (await Asker(house).decide()).candidates) != count:
            await asyncio.sleep(0.05)


@pytest.fixture
def asker(house: House) -> Asker:
    return Asker(house, TENANT)


def generated(asker: Asker) -> Any:
    request = GenerateRequest(messages=[Message(role="user", text="Hello")], hints=Hints(models=["hasty/gpt-x"]))
    return asker.stub.Generate(request, metadata=asker.person.metadata, timeout=30)


def completed(asker: Asker, *, stream: bool) -> Any:
    asked = {"model": "hasty/gpt-x", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    request = CreateChatCompletionRequest(body=HttpBody(data=json.dumps(asked).encode()))
    stub = CompletionsServiceStub(asker.house.channel("router"))
    return stub.CreateChatCompletion(request, metadata=asker.person.metadata, timeout=30)


async def hang_up(call: Any, after_s: float) -> None:
    """Listen for so long, and no longer; who hears the end has not hung up."""
    listening = asyncio.ensure_future(read(call))
    await asyncio.wait([listening], timeout=after_s)
    call.cancel()
    await asyncio.wait([listening])
    if not listening.cancelled() and isinstance(fault := listening.exception(), grpc.aio.AioRpcError):
        assert fault.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED), fault


async def read(call: Any) -> None:
    async for _ in call:
        pass


async def all_is_over(house: House) -> bool:
    [row] = await house.rows(
        f"SELECT (SELECT count(*) FROM soma.holds WHERE tenant = '{TENANT}') AS held, "
        f"(SELECT count(*) FROM t_{TENANT}.decisions WHERE settle_time IS NULL) AS open"
    )
    return not row["held"] and not row["open"]


async def until_all_is_over(house: House) -> None:
    async with asyncio.timeout(30):
        while not await all_is_over(house):
            await asyncio.sleep(0.05)


async def check_places(asker: Asker, provider: FakeProvider) -> None:
    """Just as many calls as there are places have room at once; the next one has none."""
    provider.behaviour = Behaviour(words=1, wait_ms=30_000)
    calls = [generated(asker) for _ in range(RUNNING + QUEUED)]
    firsts = await asyncio.gather(*(call.read() for call in calls))
    assert all(first.decision.provider == "hasty" for first in firsts)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="MODEL_BUSY"):
        await generated(asker).read()
    for call in calls:
        call.cancel()


async def test_after_500_hang_ups_at_any_moment_no_place_no_hold_and_no_decision_is_left_behind(
    house: House, asker: Asker, hasty: FakeProvider
) -> None:
    chance, turns = random.Random(6), asyncio.Semaphore(AT_ONCE)
    hasty.behaviour = Behaviour(words=4, wait_ms=20, pace_ms=10)

    async def one(n: int) -> None:
        async with turns:
            doors = (generated, lambda one: completed(one, stream=True), lambda one: completed(one, stream=False))
            await hang_up(doors[n % 3](asker), chance.uniform(0, LATEST_S) if n % 20 else 10)

    await asyncio.gather(*(one(n) for n in range(HANG_UPS)))
    await until_all_is_over(house)
    ended = await house.rows(f"SELECT finish_reason, count(*) FROM t_{TENANT}.decisions GROUP BY 1")
    assert {row["finish_reason"] for row in ended} >= {"cancelled", "stop"}
    await check_places(asker, hasty)
    await until_all_is_over(house)


async def test_who_hangs_up_while_the_books_are_waited_for_leaves_nothing_behind(
    house: House, asker: Asker, hasty: FakeProvider
) -> None:
    """Somebody else has the tenant's ledger all the while."""
    conn = await asyncpg.connect(house.admin_url)
    await conn.execute("INSERT INTO soma.ledgers (tenant) VALUES ($1) ON CONFLICT DO NOTHING", TENANT)
    async with conn.transaction():
        await conn.execute("SELECT * FROM soma.ledgers WHERE tenant = $1 FOR UPDATE", TENANT)
        await asyncio.gather(*(hang_up(generated(asker), 0.2) for _ in range(RUNNING + QUEUED)))
        await asyncio.gather(*(hang_up(completed(asker, stream=False), 0.2) for _ in range(RUNNING + QUEUED)))
    await conn.close()
    await until_all_is_over(house)
    assert hasty.asked == 0, "no model was asked for those who had gone"
    await check_places(asker, hasty)
    await until_all_is_over(house)
