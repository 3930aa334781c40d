"""The agent room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack

from grpc_health.v1 import health_pb2_grpc

from services.agent.canvas import Canvas
from services.agent.chat import Chat
from services.agent.conversations import Conversations
from services.agent.orphans import Orphans
from services.agent.service import ChatService, ConversationService, HealthService
from services.agent.turn import Agent
from services.agent.watching import Elsewhere
from services.common.background import alongside
from services.common.cache import open_cache
from services.common.client import open_channel
from services.common.clock import new_id
from services.common.config import RoomConfig
from services.common.server import Served, open_ground, run, serve
from soma.agent.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from soma.agent.v1.conversation_service_pb2_grpc import add_ConversationServiceServicer_to_server
from soma.agent.v1.health_service_pb2_grpc import add_HealthServiceServicer_to_server
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub

MODELS = "soma.router.v1.RouterService"


class AgentConfig(RoomConfig, frozen=True, kw_only=True):
    router: str
    """host:port of the router."""
    canvas: str
    """host:port of the canvas."""
    turns: int = 512
    """How many turns may run at once."""


async def main(config: AgentConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "agent"))
        cache = await doors.enter_async_context(open_cache(config.cache_url))
        router = await doors.enter_async_context(open_channel(ground.identity, config.router, "router"))
        panes = await doors.enter_async_context(open_channel(ground.identity, config.canvas, "canvas"))
        canvas = Canvas(CanvasServiceStub(panes))
        holder = f"{socket.gethostname()}/{os.getpid()}/{new_id()}"
        agent = Agent(holder, ground.db, cache, RouterServiceStub(router), canvas, ground.sight)
        chat = Chat(agent, Elsewhere(ground.db, cache), most=config.turns)
        await doors.enter_async_context(alongside(Orphans(ground.db, cache, chat.turns).watch(), name="orphans"))
        health = HealthService(ground.db, health_pb2_grpc.HealthStub(router), MODELS)
        services = [
            Served("soma.agent.v1.ChatService", add_ChatServiceServicer_to_server, ChatService(chat)),
            Served(
                "soma.agent.v1.ConversationService",
                add_ConversationServiceServicer_to_server,
                ConversationService(Conversations(ground.db, chat, canvas)),
            ),
            Served("soma.agent.v1.HealthService", add_HealthServiceServicer_to_server, health),
        ]
        await serve(config, ground, services, lambda: chat.drain(config.drain_s / 2))


if __name__ == "__main__":
    run(main, AgentConfig)
