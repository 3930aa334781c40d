"""The house: the rooms as real processes over mTLS, a real Postgres, Valkey and issuer; no edge, no local model.

Rooms run in TEST mode, so the scripted model answers. One house serves a whole test run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import schema
from services.common.clock import SystemClock
from services.local.issuer.key import mint
from services.local.ports import free_port
from services.local.workload.authority import Authority, open_authority
from soma.agent.v1.chat_service_pb2_grpc import ChatServiceStub
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from soma.agent.v1.health_service_pb2_grpc import HealthServiceStub
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from soma.console.v1.audit_service_pb2_grpc import AuditServiceStub
from soma.router.v1.budget_service_pb2_grpc import BudgetServiceStub
from soma.router.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from soma.router.v1.key_service_pb2_grpc import KeyServiceStub
from soma.router.v1.policy_service_pb2_grpc import PolicyServiceStub
from soma.router.v1.provider_service_pb2_grpc import ProviderServiceStub
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from tests.stores import running_postgres, running_valkey

TRUST_DOMAIN = "soma.local"
ROOMS = ("agent", "router", "canvas", "console")
"""The workers are not among them: what rooms tell stays in the outbox, where tests can look at it."""
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a token, calling rooms through the edge's identity."""

    house: House
    tenant: str
    name: str
    metadata: tuple[tuple[str, str], ...]
    chat: ChatServiceStub
    conversations: ConversationServiceStub
    router: RouterServiceStub
    canvas: CanvasServiceStub
    audit: AuditServiceStub
    policies: PolicyServiceStub
    keys: KeyServiceStub
    providers: ProviderServiceStub
    budgets: BudgetServiceStub
    feedback: FeedbackServiceStub


@dataclass
class House:
    folder: Path
    authority: Authority
    admin_url: str
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    rooms: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    channels: dict[tuple[str, str], grpc.aio.Channel] = field(default_factory=dict)

    def token(self, tenant: str, name: str = "member", roles: tuple[str, ...] = ("member",), ttl_s: int = 600) -> str:
        return mint(self.folder / "issuer", self.issuer, "soma", tenant, name, list(roles), ttl_s, SystemClock())

    @property
    def issuer(self) -> str:
        return self.environment["agent"]["SOMA_ISSUER"]

    def person(
        self,
        tenant: str = "acme",
        name: str = "member",
        roles: tuple[str, ...] = ("member",),
        ttl_s: int = 600,
        at: str = "agent",
        router: str = "router",
    ) -> Person:
        """Someone who calls the agent named `at`, and the router so named."""
        token = self.token(tenant, name, roles, ttl_s)
        agent, routing = self.channel(at), self.channel(router)
        return Person(
            self,
            tenant,
            name,
            (("authorization", f"Bearer {token}"),),
            ChatServiceStub(agent),
            ConversationServiceStub(agent),
            RouterServiceStub(routing),
            CanvasServiceStub(self.channel("canvas")),
            AuditServiceStub(self.channel("console")),
            PolicyServiceStub(routing),
            KeyServiceStub(routing),
            ProviderServiceStub(routing),
            BudgetServiceStub(routing),
            FeedbackServiceStub(routing),
        )

    def health(self) -> HealthServiceStub:
        return HealthServiceStub(self.channel("agent"))

    def channel(self, room: str, as_room: str = "edge") -> grpc.aio.Channel:
        """A channel to a room ("agent", or a second one: "agent2"), with the identity of another."""
        key = (room, as_room)
        if key not in self.channels:
            private, chain, bundle = self.authority.svid(as_room)
            credentials = grpc.ssl_channel_credentials(bundle, private, chain)
            options = (
                ("grpc.ssl_target_name_override", f"{kind(room)}.{TRUST_DOMAIN}"),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_reconnect_backoff_ms", 200),
                ("grpc.initial_reconnect_backoff_ms", 50),
            )
            self.channels[key] = grpc.aio.secure_channel(self.environment[room]["SOMA_LISTEN"], credentials, options)
        return self.channels[key]

    def store(self, room: str) -> tuple[str, str]:
        """Where a room's database is, and where its tenants' keys are."""
        return self.environment[room]["SOMA_DATABASE_URL"], self.environment[room]["SOMA_KEYS_URL"]

    async def rows(self, sql: str, *values: object) -> list[Mapping[str, Any]]:
        """What the database's administrator sees."""
        conn = await asyncpg.connect(self.admin_url)
        try:
            return [dict(row) for row in await conn.fetch(sql, *values)]
        finally:
            await conn.close()

    async def until_settled(self, turn: str, tenant: str = "acme") -> None:
        """A settlement that takes longer than two seconds ends after the answer."""
        running = f"SELECT 1 FROM t_{tenant}.decisions WHERE turn = $1 AND settle_time IS NULL"
        async with asyncio.timeout(20):
            while await self.rows(running, turn):
                await asyncio.sleep(0.05)

    async def start(self, room: str) -> None:
        """Start a room, or a further one of its kind, and wait until it serves."""
        if room not in self.environment:
            self.environment[room] = self.environment[kind(room)] | {"SOMA_LISTEN": f"127.0.0.1:{free_port()}"}
        log = (self.folder / f"{room}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"services.{kind(room)}",
            env=os.environ | self.environment[room],
            stdout=log,
            stderr=log,
        )
        log.close()
        self.authority.admit(process.pid, kind(room))
        self.rooms[room] = process
        await self.until_serving(room)

    async def until_serving(self, room: str) -> None:
        async with asyncio.timeout(START_S):
            while not await self.is_serving(room):
                assert self.rooms[room].returncode is None, (self.folder / f"{room}.log").read_text()[-2000:]
                await asyncio.sleep(0.05)

    async def is_serving(self, room: str) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(self.channel(room, "local"))
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def end(self, room: str, how: signal.Signals = signal.SIGTERM) -> None:
        process = self.rooms.pop(room)
        if process.returncode is None:
            process.send_signal(how)
        async with asyncio.timeout(20):
            await process.wait()
        self.authority.forget(process.pid)


def kind(room: str) -> str:
    return room.rstrip("0123456789")


@asynccontextmanager
async def open_house(start: tuple[str, ...] = ROOMS) -> AsyncIterator[House]:
    async with AsyncExitStack() as doors:
        folder = Path(doors.enter_context(tempfile.TemporaryDirectory(prefix="soma-house-")))
        folder.chmod(0o755)
        admin_url, cache_url, authority = await asyncio.gather(
            doors.enter_async_context(running_postgres(folder / "postgres")),
            doors.enter_async_context(running_valkey(folder / "valkey")),
            doors.enter_async_context(open_authority(folder / "authority", folder / "w.sock", TRUST_DOMAIN)),
        )
        house = House(folder, authority, admin_url)
        await schema.migrate(admin_url, ROOMS)
        await show_what_is_told(admin_url)
        for room in ROOMS:
            await schema.set_room_password(admin_url, room, "test")
        for tenant in ("acme", "globex"):
            await schema.add_tenant(admin_url, tenant, ROOMS)
        issuer = f"127.0.0.1:{free_port()}"
        common = {
            "SOMAGENT_MODE": "TEST",
            "SPIFFE_ENDPOINT_SOCKET": f"unix://{folder / 'w.sock'}",
            "SOMA_ISSUER": "http://localhost:8080/oidc",
            "SOMA_JWKS_URL": f"http://{issuer}/oidc/jwks",
            "SOMA_CACHE_URL": cache_url,
            "SOMA_ISSUER_DIR": str(folder / "issuer"),
        }
        host = admin_url.rpartition("@")[2]
        for room in ROOMS:
            house.environment[room] = common | {
                "SOMA_LISTEN": f"127.0.0.1:{free_port()}",
                "SOMA_KEYS_URL": f"file://{folder / 'keys'}",
                "SOMA_DATABASE_URL": f"postgresql://soma_{room}:test@{host}",
            }
        house.environment["agent"] |= {
            "SOMA_ROUTER": house.environment["router"]["SOMA_LISTEN"],
            "SOMA_CANVAS": house.environment["canvas"]["SOMA_LISTEN"],
        }
        house.environment["canvas"]["SOMA_AGENT"] = house.environment["agent"]["SOMA_LISTEN"]
        house.environment["router"] |= {
            "SOMA_PROVIDERS_FILE": str(folder / "providers.toml"),
            "SOMA_SECRETS_DIR": str(folder / "secrets"),
            "SOMA_LOCAL_MODEL_URL": "http://127.0.0.1:9/v1",
        }
        (folder / "secrets").mkdir()
        desk = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.local.issuer", env=os.environ | common | {"SOMA_LISTEN": issuer}
        )
        doors.push_async_callback(end_process, desk)
        await until_listening(issuer)
        doors.push_async_callback(end_rooms, house)
        await asyncio.gather(*(house.start(room) for room in start))
        yield house
        for channel in house.channels.values():
            await channel.close()


async def show_what_is_told(admin_url: str) -> None:
    """Views for tests, of what waits in the outbox and what tests/sealing.py has moved into the log: soma.told has the
    events, soma.audited those of the audit trail."""
    conn = await asyncpg.connect(admin_url)
    try:
        await conn.execute(
            "CREATE VIEW soma.every AS SELECT id, aggregatetype AS topic, type, payload, traceparent FROM soma.outbox "
            "UNION ALL SELECT id, topic, type, payload, traceparent FROM soma.log; "
            "CREATE VIEW soma.told AS SELECT id, topic, type, payload::jsonb AS body, traceparent "
            "FROM soma.every WHERE topic <> 'agent.audit'; "
            "CREATE VIEW soma.audited AS SELECT id, type AS action, payload::jsonb AS body "
            "FROM soma.every WHERE topic = 'agent.audit'"
        )
    finally:
        await conn.close()


async def until_listening(address: str) -> None:
    """A room that starts before the issuer does not ask it again at once."""
    host, _, port = address.partition(":")
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def end_rooms(house: House) -> None:
    await asyncio.gather(*(house.end(room) for room in list(house.rooms)))


async def end_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()
