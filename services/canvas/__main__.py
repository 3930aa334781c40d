"""The canvas room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.common.cache import open_cache
from services.common.client import open_channel
from services.common.config import RoomConfig
from services.common.server import Served, open_ground, run, serve
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceServicer, add_CanvasServiceServicer_to_server


class CanvasConfig(RoomConfig):
    agent: str
    """host:port of the agent."""


async def main(config: CanvasConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "canvas"))
        cache = await doors.enter_async_context(open_cache(config.cache_url))
        agent = await doors.enter_async_context(open_channel(ground.identity, config.agent, "agent"))
        del cache
        ConversationServiceStub(agent)
        services = [
            Served("soma.canvas.v1.CanvasService", add_CanvasServiceServicer_to_server, CanvasServiceServicer()),
        ]
        await serve(config, ground, services)


if __name__ == "__main__":
    run(main, CanvasConfig)
