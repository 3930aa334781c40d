"""A server that says what it is told, in a process of its own: bare grpc.aio, or behind the guard of every room.

python -m tests.bench.echo_server bare|guarded     (the rest from the environment, as a room has it)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc import aio

from services.common.call import Call
from services.common.clock import SystemClock
from services.common.config import RoomConfig
from services.common.identity import open_identity
from services.common.interceptors import Guard, GuardInterceptor
from services.common.server import OPTIONS, stop_signal
from services.common.telemetry import open_telemetry
from services.common.tokens import KeyRing, Verifier, read_keys
from services.local.issuer.key import open_key
from soma.agent.v1.chat_event_pb2 import ChatEvent, Text
from soma.agent.v1.chat_service_pb2 import ChatRequest
from soma.agent.v1.conversation_pb2 import Conversation
from soma.agent.v1.conversation_service_pb2 import UpdateConversationRequest

MESSAGES = 64
Context = aio.ServicerContext[Any, Any]


async def echo(request: UpdateConversationRequest, context: Context) -> Conversation:
    return request.conversation


async def repeat(request: ChatRequest, context: Context) -> AsyncIterator[ChatEvent]:
    for number in range(MESSAGES):
        yield ChatEvent(sequence=number + 1, text=Text(delta=request.text))


def handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    """Two methods of the contract, with its own messages and rules, answered by an echo."""
    unary: Any = grpc.unary_unary_rpc_method_handler(
        echo, UpdateConversationRequest.FromString, Conversation.SerializeToString
    )
    stream: Any = grpc.unary_stream_rpc_method_handler(repeat, ChatRequest.FromString, ChatEvent.SerializeToString)
    return (
        grpc.method_handlers_generic_handler("soma.agent.v1.ConversationService", {"UpdateConversation": unary}),
        grpc.method_handlers_generic_handler("soma.agent.v1.ChatService", {"Chat": stream}),
    )


class Unwritten:
    """Where nothing is written down: a bench has no refusals, and its mode audits no reads."""

    async def audit(self, call: Call, action: str, *, resource: str = "", reason: str = "") -> None:
        raise AssertionError(f"{call.method} is audited as {action}: {resource}{reason}")


async def main(kind: str, config: RoomConfig) -> None:
    async with AsyncExitStack() as doors:
        identity = await doors.enter_async_context(open_identity(config.spiffe_socket, config.trust_domain))
        guards: list[aio.ServerInterceptor] = []
        if kind == "guarded":
            sight = doors.enter_context(open_telemetry(config, "echo"))
            guards = [
                GuardInterceptor(Guard(config.trust_domain, config.namespace, verifier(config), sight, Unwritten()))
            ]
        options = (*OPTIONS, *identity.server_options(config.longest_call_s))
        server = aio.server(interceptors=guards, options=options)
        server.add_generic_rpc_handlers(handlers())
        server.add_secure_port(config.listen, identity.server_credentials())
        stop = stop_signal()
        await server.start()
        print("serving", flush=True)
        await stop.wait()
        await server.stop(0)


def verifier(config: RoomConfig) -> Verifier:
    """A verifier that has fetched the issuer's keys already."""
    clock = SystemClock()
    issuer = open_key(Path(os.environ["SOMA_ISSUER_DIR"]))
    keys = read_keys({}, json.dumps(issuer.jwks()).encode())
    ring = KeyRing(config.jwks_url, clock, keys, fetched=True, tried=clock.now().timestamp())
    return Verifier(config.issuer, config.audience, clock, ring)


def told() -> RoomConfig:
    return RoomConfig.told()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(sys.argv[1], told()))
