"""A real Envoy with the rendered configuration, in front of small rooms that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from aiohttp import ClientResponse, ClientSession, UnixConnector, web

from services.common.clock import SystemClock
from services.common.errors import Conflict, Refusal
from services.common.modes import Mode
from services.common.reflection import reflect
from services.local.edge.configuration import EdgeSettings, render
from services.local.issuer.app import IssuerConfig, issuer_app
from services.local.issuer.key import mint
from services.local.ports import free_port, has_ipv6
from services.local.wheels import envoy_program
from services.local.workload.authority import Authority
from services.local.workload.ca import Lives
from services.local.workload.sds import put_sds, put_trust
from soma.agent.v1 import (
    chat_event_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    health_service_pb2,
    health_service_pb2_grpc,
)
from soma.common.v1 import model_pb2
from soma.router.v1 import router_service_pb2, router_service_pb2_grpc, routing_pb2

Event = chat_event_pb2.ChatEvent
Context = grpc.aio.ServicerContext[Any, Any]
FRIEND = "http://friend.test:5173"


async def refuse(context: Context, refusal: Refusal) -> None:
    details = (("grpc-status-details-bin", refusal.status().SerializeToString()),)
    await context.abort(grpc.StatusCode.ABORTED, refusal.message, details)


@dataclass
class Agent(
    chat_service_pb2_grpc.ChatServiceServicer,
    conversation_service_pb2_grpc.ConversationServiceServicer,
    health_service_pb2_grpc.HealthServiceServicer,
):
    """Answers as the question's first word says."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    heard: dict[str, str] = field(default_factory=dict)
    left_s: float | None = None
    """How much of the last caller's deadline was left."""
    updated: conversation_service_pb2.UpdateConversationRequest | None = None

    def listen(self, context: Context) -> None:
        self.heard = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        self.left_s = context.time_remaining()

    async def Chat(self, request: chat_service_pb2.ChatRequest, context: Context) -> AsyncIterator[Event]:
        self.listen(context)
        deed = request.text.split(" ", 1)[0]
        if deed == "refuse":
            await refuse(context, Conflict("TURN_RUNNING", "Wait.", turn="conversations/c/turns/t"))
        yield Event(sequence=1, accepted=chat_event_pb2.Accepted(turn="conversations/c/turns/t"))
        try:
            if deed in ("wait", "hang"):
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        long = "x" * 1_500_000 if deed == "long" else str(len(request.text.encode()))
        yield Event(sequence=2, text=chat_event_pb2.Text(delta=long))
        yield Event(heartbeat=chat_event_pb2.Heartbeat())
        yield Event(sequence=3, done=chat_event_pb2.Done(finish_reason="stop"))

    async def WatchTurn(self, request: chat_service_pb2.WatchTurnRequest, context: Context) -> AsyncIterator[Event]:
        yield Event(sequence=request.after_sequence + 1, text=chat_event_pb2.Text(delta=request.name))

    async def CancelTurn(self, request: chat_service_pb2.CancelTurnRequest, context: Context) -> conversation_pb2.Turn:
        return conversation_pb2.Turn(name=request.name, state=conversation_pb2.Turn.STATE_CANCELLED)

    async def GetTurn(self, request: chat_service_pb2.GetTurnRequest, context: Context) -> conversation_pb2.Turn:
        return conversation_pb2.Turn(name=request.name, answer="x" * 1_500_000)

    async def ListTurns(
        self, request: chat_service_pb2.ListTurnsRequest, context: Context
    ) -> chat_service_pb2.ListTurnsResponse:
        return chat_service_pb2.ListTurnsResponse()

    async def CreateConversation(
        self, request: conversation_service_pb2.CreateConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        return request.conversation

    async def DeleteConversation(
        self, request: conversation_service_pb2.DeleteConversationRequest, context: Context
    ) -> conversation_service_pb2.DeleteConversationResponse:
        return conversation_service_pb2.DeleteConversationResponse()

    async def GetConversation(
        self, request: conversation_service_pb2.GetConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        if request.name == "conversations/slow":
            await asyncio.Event().wait()
        return conversation_pb2.Conversation(name=request.name)

    async def ListConversations(
        self, request: conversation_service_pb2.ListConversationsRequest, context: Context
    ) -> conversation_service_pb2.ListConversationsResponse:
        return conversation_service_pb2.ListConversationsResponse(next_page_token=f"{request.page_size}")

    async def UpdateConversation(
        self, request: conversation_service_pb2.UpdateConversationRequest, context: Context
    ) -> conversation_pb2.Conversation:
        self.updated = request
        return request.conversation

    async def CheckHealth(
        self, request: health_service_pb2.CheckHealthRequest, context: Context
    ) -> health_service_pb2.CheckHealthResponse:
        return health_service_pb2.CheckHealthResponse(status="ok")


class Router(router_service_pb2_grpc.RouterServiceServicer):
    async def Decide(self, request: Any, context: Context) -> model_pb2.Decision:
        return model_pb2.Decision(model="m")

    async def ReplayDecision(self, request: Any, context: Context) -> router_service_pb2.ReplayDecisionResponse:
        return router_service_pb2.ReplayDecisionResponse()

    async def Generate(self, request: Any, context: Context) -> AsyncIterator[routing_pb2.GenerateEvent]:
        yield routing_pb2.GenerateEvent()


@dataclass
class House:
    """Envoy, its rooms and its issuer."""

    agent: Agent
    authority: Authority
    settings: EdgeSettings
    http: ClientSession
    keys: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.settings.port}{path}"

    def token(self, ttl_s: int = 60, **changed: Any) -> str:
        made = {"issuer": self.settings.issuer_url, "audience": "soma", "tenant": "acme", "person": "member"} | changed
        return mint(self.keys, roles=("member",), ttl_s=ttl_s, clock=SystemClock(), **made)

    async def call(self, method: str, path: str, *, token: str | None = "", **more: Any) -> ClientResponse:
        headers = {"authorization": f"Bearer {token or self.token()}"} if token is not None else {}
        return await self.http.request(method, self.url(path), headers=headers | more.pop("headers", {}), **more)

    async def chat(self, text: str) -> ClientResponse:
        return await self.call("POST", "/v1/chat:stream", json={"text": text})


@asynccontextmanager
async def open_house(
    place: Path, grpc_port: int | None = None, doors: Sequence[Callable[[grpc.aio.Server], None]] = ()
) -> AsyncIterator[House]:
    """Everything behind an Envoy and the Envoy, in one folder. With a port for programs that speak gRPC if wanted;
    `doors` add more services to the router."""
    put_page(place / "web")
    authority = Authority(place / "authority", "soma.local", "soma", Lives(timedelta(hours=1), timedelta(days=30)))
    put_sds(authority, "edge", place / "sds")
    put_trust(authority, place / "peers", place / "sds")
    async with AsyncExitStack() as parts:
        agent, port = Agent(), free_port()
        issuer_url = f"http://localhost:{port}/oidc"
        settings = EdgeSettings(
            port=port,
            admin=str(place / "admin.sock"),
            rooms={
                "agent": await parts.enter_async_context(served_agent(authority, "agent", agent)),
                "router": await parts.enter_async_context(served_router(authority, "router", doors)),
            },
            issuer=await parts.enter_async_context(served_issuer(issuer_url, place / "keys")),
            issuer_url=issuer_url,
            sds_dir=place / "sds",
            access_log=place / "access.log",
            web_dir=place / "web",
            openapi=place / "openapi.json",
            cors_origins=(FRIEND,),
            ipv6=has_ipv6(port),
            grpc_port=grpc_port,
            reflects=True,
            unary_s=5,
        )
        await parts.enter_async_context(envoy(settings, place / "edge.yaml"))
        http = await parts.enter_async_context(ClientSession())
        yield House(agent, authority, settings, http, place / "keys")


def put_page(directory: Path) -> None:
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<!doctype html><title>page</title>")
    (directory / "docs.html").write_text("<!doctype html><title>docs</title>")
    (directory / "pane.html").write_text("<!doctype html><title>pane</title>")
    (directory.parent / "openapi.json").write_text('{"openapi": "3.1.0"}')
    (directory / "assets/app-1a2b.js").write_text("let answer = 42;" * 1000)
    (directory / "mark.svg").write_text("<svg/>")


def put(path: Path, text: str) -> None:
    path.write_text(text)


@asynccontextmanager
async def served_agent(authority: Authority, identity: str, agent: Agent) -> AsyncIterator[str]:
    server = grpc.aio.server()
    chat_service_pb2_grpc.add_ChatServiceServicer_to_server(agent, server)
    conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(agent, server)
    health_service_pb2_grpc.add_HealthServiceServicer_to_server(agent, server)
    reflect(server)
    async with serving(authority, identity, server) as where:
        yield where


@asynccontextmanager
async def served_router(
    authority: Authority, identity: str, doors: Sequence[Callable[[grpc.aio.Server], None]] = ()
) -> AsyncIterator[str]:
    server = grpc.aio.server()
    router_service_pb2_grpc.add_RouterServiceServicer_to_server(Router(), server)
    for add in doors:
        add(server)
    async with serving(authority, identity, server) as where:
        yield where


@asynccontextmanager
async def serving(authority: Authority, identity: str, server: grpc.aio.Server) -> AsyncIterator[str]:
    key, chain, bundle = authority.svid(identity)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)], bundle, True))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def served_issuer(issuer_url: str, keys: Path) -> AsyncIterator[str]:
    config = IssuerConfig(mode=Mode.DEVELOPER, issuer=issuer_url, issuer_dir=keys)
    runner = web.AppRunner(issuer_app(config, SystemClock()))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def envoy(settings: EdgeSettings, config: Path) -> AsyncIterator[None]:
    """The real one, until the block ends; it is there when its admin page says so."""
    put(config, render(settings))
    process = await asyncio.create_subprocess_exec(
        str(envoy_program()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning",
        "--log-path", str(config.with_suffix(".log")), "--file-flush-interval-msec", "50",
    )  # fmt: skip
    try:
        async with asyncio.timeout(15), ClientSession(connector=UnixConnector(settings.admin)) as admin:
            while not await is_ready(admin):
                assert process.returncode is None, config.with_suffix(".log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_ready(admin: ClientSession) -> bool:
    try:
        async with admin.get("http://admin/ready") as answer:
            return answer.status == 200
    except OSError:
        return False
