"""The Workload API of this machine, and our own use of it: the edge's certificate as files, health asked over mTLS."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.background import alongside
from services.common.client import open_channel
from services.common.errors import Refusal
from services.common.identity import open_identity
from services.local.ready import Serves
from services.local.stack import ROOMS, TRUST_DOMAIN, Stack
from services.local.workload.authority import Authority, open_authority
from services.local.workload.sds import put_sds, put_trust, write_sds

OURS, EDGE = "local", "edge"
ASK_S = 1.5
QUICK = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 250))
"""A room that is starting is asked again and again: gRPC must not wait longer than we do."""


@dataclass(frozen=True, slots=True)
class Identities:
    """What the supervisor can do for rooms, and ask of them."""

    authority: Authority
    stubs: Mapping[str, Any]
    stack: Stack

    def admit(self, pid: int, room: str) -> None:
        """Let a process of ours be this room. One that has already ended needs nothing."""
        try:
            self.authority.admit(pid, room)
        except ProcessLookupError:
            return

    def forget(self, pid: int) -> None:
        self.authority.forget(pid)

    def trust_peers(self) -> None:
        """Let the edge trust the peers that are kept now, and no others."""
        put_trust(self.authority, self.stack.peers, self.stack.secrets_for_edge)

    async def ask_health(self, check: Serves) -> bool:
        """Whether the room says that it serves."""
        try:
            answer = await self.stubs[check.room].Check(health_pb2.HealthCheckRequest(), timeout=ASK_S)
        except (grpc.RpcError, Refusal):
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def open_identities(stack: Stack) -> AsyncIterator[Identities]:
    """Serve the Workload API, keep the edge's certificate fresh, and hold a channel to each room."""
    async with AsyncExitStack() as doors:
        folder, socket = stack.home / "authority", stack.workload_socket
        authority = await doors.enter_async_context(open_authority(folder, socket, TRUST_DOMAIN))
        put_sds(authority, EDGE, stack.secrets_for_edge)
        put_trust(authority, stack.peers, stack.secrets_for_edge)
        writing = write_sds(authority, EDGE, stack.secrets_for_edge, stack.peers)
        await doors.enter_async_context(alongside(writing, name="sds"))
        authority.admit(os.getpid(), OURS)
        identity = await doors.enter_async_context(open_identity(f"unix://{socket}", TRUST_DOMAIN))
        stubs = {}
        for room in ROOMS:
            channel = open_channel(identity, stack.address(room), room, options=QUICK)
            stubs[room] = health_pb2_grpc.HealthStub(await doors.enter_async_context(channel))
        yield Identities(authority, stubs, stack)
