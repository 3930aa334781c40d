"""What every call pays for the guard: an echo behind all interceptors against bare grpc.aio, over the same mTLS.

The servers run in processes of their own and take turns; a figure is the median of the rounds. Each call carries a
token and a traceparent, to the bare server too. The ratio with a goal is that of CPU a call in the server: the load
generator is Python as well and shares the two cores, so calls a second depend on both.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

import grpc
import uvloop
from google.protobuf.field_mask_pb2 import FieldMask

from services.common.clock import SystemClock
from services.local.issuer.key import mint
from services.local.ports import free_port
from services.local.workload.authority import Authority, open_authority
from soma.agent.v1.chat_service_pb2 import ChatRequest
from soma.agent.v1.chat_service_pb2_grpc import ChatServiceStub
from soma.agent.v1.conversation_pb2 import Conversation
from soma.agent.v1.conversation_service_pb2 import UpdateConversationRequest
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from tests.bench.echo_server import MESSAGES
from tests.bench.figure import Figure
from tests.bench.spent import cpu_s
from tests.house import TRUST_DOMAIN, end_process

ISSUER = "http://localhost:8080/oidc"
ROUNDS = 12
CALLS, CALLS_AT_ONCE = 9000, 16
STREAMS, STREAMS_AT_ONCE = 480, 8
SAMPLED_1_IN = {"bare": 1, "traced": 1, "sampled": 100}


@dataclass(slots=True)
class Server:
    """One server, and what was asked of it so far."""

    pid: int
    channel: grpc.aio.Channel
    token: str
    sampled_1_in: int
    numbers: count[int] = field(default_factory=count)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the edge sends along; one trace in so many is kept."""
        kept = int(next(self.numbers) % self.sampled_1_in == 0)
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{kept:02x}"
        return (("authorization", f"Bearer {self.token}"), ("traceparent", trace))


@dataclass(frozen=True, slots=True)
class Round:
    """What one round cost a server: CPU for each piece of work, and how many were done in a second."""

    cost_us: float
    rate: float


def measure(scale: float) -> list[Figure]:
    return uvloop.run(measured(scale))


async def measured(scale: float) -> list[Figure]:
    async with open_servers() as servers:
        for server in servers.values():
            await at_once(unary(server), 200, CALLS_AT_ONCE)
        calls = await taking_turns(servers, unary, round(CALLS * scale), CALLS_AT_ONCE, 1)
        streams = await taking_turns(servers, stream, round(STREAMS * scale), STREAMS_AT_ONCE, MESSAGES)
    return [*figures("unary", calls, "calls/s"), *figures("stream", streams, "messages/s")]


def figures(kind: str, rounds: Sequence[dict[str, Round]], unit: str) -> list[Figure]:
    """The medians of the rounds' ratios."""
    one, found = unit.removesuffix("s/s"), []
    cost = {name: median(turn[name].cost_us for turn in rounds) for name in SAMPLED_1_IN}
    rate = {name: median(turn[name].rate for turn in rounds) for name in SAMPLED_1_IN}
    for name, goal, says in (("traced", 0.5, "all traced"), ("sampled", 0.6, "1 % traced")):
        cheaper = median(turn["bare"].cost_us / turn[name].cost_us for turn in rounds)
        faster = median(turn[name].rate / turn["bare"].rate for turn in rounds)
        costs = f"{cost['bare']:.0f} of {cost[name]:.0f} µs of CPU in the server"
        rates = f"{rate[name]:,.0f} of {rate['bare']:,.0f} {unit}, with the load generator beside it"
        found.append(Figure(f"{kind}, {says}: CPU a {one}, bare / guarded", cheaper, goal=goal, note=costs))
        found.append(Figure(f"{kind}, {says}: {unit}, guarded / bare", faster, note=rates))
    return found


Work = Callable[[], Awaitable[None]]


async def taking_turns(
    servers: dict[str, Server], work: Callable[[Server], Work], times: int, side_by_side: int, pieces: int
) -> list[dict[str, Round]]:
    """Rounds of work for each server in turn, so that what else the machine does hits all alike."""
    each = max(side_by_side, times // ROUNDS)
    rounds = []
    for _ in range(ROUNDS):
        turn = {}
        for name, server in servers.items():
            began, spent = time.perf_counter(), cpu_s(server.pid)
            await at_once(work(server), each, side_by_side)
            done, took_s = each * pieces, time.perf_counter() - began
            turn[name] = Round((cpu_s(server.pid) - spent) / done * 1e6, done / took_s)
        rounds.append(turn)
    return rounds


async def at_once(work: Work, times: int, side_by_side: int) -> None:
    """Do the work so many times, so many of them side by side."""
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await work()

    async with asyncio.TaskGroup() as group:
        for _ in range(side_by_side):
            group.create_task(worker())


def unary(server: Server) -> Work:
    stub = ConversationServiceStub(server.channel)
    echoed = Conversation(name="conversations/1", title="x" * 200, etag="x" * 800)
    request = UpdateConversationRequest(conversation=echoed, update_mask=FieldMask(paths=["title"]))

    async def call() -> None:
        answer = await stub.UpdateConversation(request, metadata=server.metadata(), timeout=20)
        assert len(answer.etag) == 800

    return call


def stream(server: Server) -> Work:
    stub, request = ChatServiceStub(server.channel), ChatRequest(text="a token of it")

    async def call() -> None:
        seen = 0
        async for _ in stub.Chat(request, metadata=server.metadata(), timeout=20):
            seen += 1
        assert seen == MESSAGES

    return call


@asynccontextmanager
async def open_servers() -> AsyncIterator[dict[str, Server]]:
    async with AsyncExitStack() as doors:
        folder = Path(doors.enter_context(tempfile.TemporaryDirectory(prefix="soma-echo-")))
        socket = folder / "w.sock"
        authority = await doors.enter_async_context(open_authority(folder / "authority", socket, TRUST_DOMAIN))
        token = mint(folder / "issuer", ISSUER, "soma", "acme", "member", ("member",), 3600, SystemClock())
        servers = {}
        for name in SAMPLED_1_IN:
            pid, address = await doors.enter_async_context(running_server(name, folder, authority))
            channel = channel_to(authority, address)
            doors.push_async_callback(channel.close)
            servers[name] = Server(pid, channel, token, SAMPLED_1_IN[name])
        yield servers


@asynccontextmanager
async def running_server(name: str, folder: Path, authority: Authority) -> AsyncIterator[tuple[int, str]]:
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "SOMAGENT_MODE": "TEST",
        "SPIFFE_ENDPOINT_SOCKET": f"unix://{folder / 'w.sock'}",
        "SOMA_LISTEN": address,
        "SOMA_ISSUER": ISSUER,
        "SOMA_JWKS_URL": "http://127.0.0.1:9/oidc/jwks",
        "SOMA_DATABASE_URL": "postgresql://127.0.0.1:9/none",
        "SOMA_KEYS_URL": f"file://{folder / 'keys'}",
        "SOMA_ISSUER_DIR": str(folder / "issuer"),
        "SOMA_TELEMETRY_DIR": str(folder / name),
    }
    kind = "bare" if name == "bare" else "guarded"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.echo_server", kind,
        env=os.environ | environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        authority.admit(process.pid, "agent")
        assert process.stdout
        async with asyncio.timeout(20):
            while b"serving" not in (line := await process.stdout.readline()):
                assert line, f"the {name} server ended before it served"
        yield process.pid, address
    finally:
        await end_process(process)


def channel_to(authority: Authority, address: str) -> grpc.aio.Channel:
    private, chain, bundle = authority.svid("edge")
    options = (("grpc.ssl_target_name_override", f"agent.{TRUST_DOMAIN}"), ("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(bundle, private, chain), options)
