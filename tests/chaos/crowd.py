"""A house whose router spends, stores of it that can be killed and come back, and a crowd that asks."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import asyncpg
import grpc

from services.common import schema
from services.common.clock import new_id
from services.common.testing import sent
from services.local import postgres, valkey
from services.local.process import Process, stop
from services.local.ready import Runs, is_ready
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.policy_service_pb2 import CreatePolicyRequest
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import Message, Outcome
from tests.booking import ADD
from tests.chaos.scene import Server
from tests.counting import Books, read
from tests.house import ROOMS, House, end_rooms, open_house

LEASE_S = 2
ROUTERS = ("router", "router2")
ANSWER_S = 60.0
"""Nobody is kept waiting for longer."""
IN_WORDS = {
    "BUDGET_SPENT", "MODEL_BUSY", "MODEL_UNAVAILABLE", "PROVIDER_CUT", "PROVIDER_FAILED", "INTERRUPTED", "ROOM_BUSY",
    "ROOM_UNAVAILABLE", "STORE_UNAVAILABLE",
}  # fmt: skip
"""The reasons for which one who asks rightly may be refused."""


@dataclass
class Stage:
    """Two routers over one Postgres and one Valkey."""

    house: House
    parts: AsyncExitStack
    killed: set[str] = field(default_factory=set)
    """Routers that were killed: who asked them may be cut off without a word."""

    async def kill_router(self, room: str) -> None:
        self.killed.add(room)
        await self.house.end(room, signal.SIGKILL)

    async def kill_postgres(self) -> None:
        """Killed, and begun again at once."""
        folder, port = self.house.folder / "postgres", urlsplit(self.house.admin_url).port
        assert port
        os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        async with asyncio.timeout(30):
            while await is_ready(Runs(postgres.ready_command(port))):
                await asyncio.sleep(0.01)
        server = Server(folder, port)
        await server.start()
        self._end_after_rooms(server.end, signal.SIGINT)

    async def kill_valkey(self) -> None:
        """Killed, and begun again at once."""
        url = urlsplit(self.house.environment["router"]["SOMA_CACHE_URL"])
        assert url.port and url.password
        os.kill(await pid_of_valkey(url.port, url.password), signal.SIGKILL)
        ready, command = valkey.ready(url.port, url.password), valkey.command(self.house.folder / "valkey.conf")
        server: asyncio.subprocess.Process | None = None
        async with asyncio.timeout(30):
            while not await is_ready(ready):
                if server is None or server.returncode is not None:
                    server = await asyncio.create_subprocess_exec(*command, start_new_session=True)
                await asyncio.sleep(0.05)
        assert server
        self._end_after_rooms(end, server)

    def _end_after_rooms(self, end: Callable[..., Awaitable[None]], *about: object) -> None:
        self.parts.push_async_callback(end, *about)
        self.parts.push_async_callback(end_rooms, self.house)

    async def tenant(self, name: str, *budgets: Sequence[object]) -> str:
        """A new tenant with budgets: scope, whose, window, tier, micro-USD and requests. It has scripted models alone:
        the local one is away here, which nobody should be told of."""
        await schema.add_tenant(self.house.admin_url, name, ROOMS)
        admin = self.house.person(name, "admin", ("admin",))
        policy = CreatePolicyRequest(policy=Policy(denied_models=["local/*"]), activate=True)
        await admin.policies.CreatePolicy(policy, metadata=admin.metadata, timeout=ANSWER_S)
        for scope, whose, window, tier, microusd, requests in budgets:
            await self.execute(ADD, name, new_id(), scope, whose, window, False, tier, microusd, None, requests)
        return name

    async def execute(self, statement: str, *values: object) -> None:
        conn = await asyncpg.connect(self.house.admin_url)
        try:
            await conn.execute(statement, *values)
        finally:
            await conn.close()

    async def books(self, tenant: str) -> Books:
        conn = await asyncpg.connect(self.house.admin_url)
        try:
            return await read(conn, tenant)
        finally:
            await conn.close()


async def pid_of_valkey(port: int, password: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"AUTH {password}\r\nINFO server\r\n".encode())
        async with asyncio.timeout(20):
            said = (await reader.readuntil(b"process_id:"), await reader.readline())[1]
        return int(said)
    finally:
        writer.close()


async def end(server: asyncio.subprocess.Process) -> None:
    if process := Process.of(server.pid):
        await stop(process, signal.SIGTERM)
    await server.wait()


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    async with open_house(start=()) as house, AsyncExitStack() as parts:
        house.environment["router"]["SOMA_LEASE_S"] = str(LEASE_S)
        parts.push_async_callback(end_rooms, house)
        await asyncio.gather(*map(house.start, ROUTERS))
        yield Stage(house, parts)


@dataclass(slots=True)
class Crowd:
    """Those of a tenant who ask, and what became of it."""

    stage: Stage
    tenant: str
    text: str
    max_tokens: int = 400
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By decision."""
    refused: Counter[str] = field(default_factory=Counter)
    cut_off: Counter[str] = field(default_factory=Counter)
    """Those whose router died, by its name."""

    async def ask(self, n: int, times: int) -> None:
        """One person, the questions one after another, at each router in turn. Who was cut off, or found no
        store, asks once more."""
        metadata, goal = self.stage.house.person(self.tenant, f"p{n % 16}").metadata, times
        for router in itertools.cycle(ROUTERS[n % 2 :] + ROUTERS[: n % 2]):
            stub = RouterServiceStub(self.stage.house.channel(router, "agent"))
            try:
                await self._ask(stub, metadata, ("premium", "standard")[n % 3 == 0])
                goal -= 1
            except grpc.aio.AioRpcError as error:
                goal -= self._note(error, router)
                await asyncio.sleep(0.1)
            if goal == 0:
                return

    async def _ask(self, stub: RouterServiceStub, metadata: tuple[tuple[str, str], ...], tier: str) -> None:
        messages = [Message(role="user", text=self.text)]
        request = GenerateRequest(messages=messages, tier=tier, max_tokens=self.max_tokens)
        call, decision, last = stub.Generate(request, metadata=metadata, timeout=ANSWER_S), "", Outcome()
        async for event in call:
            decision = event.decision.id or decision
            last = event.outcome if event.HasField("outcome") else last
        assert decision and (last.finish_reason or last.failure.reason), "an answer ends with its outcome"
        self.outcomes[decision] = last

    def _note(self, error: grpc.aio.AioRpcError, router: str) -> bool:
        """Whether it was told why not, for good."""
        reason = ""
        with suppress(AssertionError):
            reason = sent(error).reason
        if not reason and router in self.stage.killed:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            self.cut_off[router] += 1
        else:
            assert reason in IN_WORDS, f"{error.code()} {reason!r}: {error.details()}"
            self.refused[reason] += 1
        return reason not in ("", "STORE_UNAVAILABLE")

    @property
    def done(self) -> int:
        """Questions that were answered, or refused for good."""
        return len(self.outcomes) + self.refused.total() - self.refused["STORE_UNAVAILABLE"]
