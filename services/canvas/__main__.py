"""The canvas room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.canvas.bells import Bells
from services.canvas.canvas import Canvas
from services.canvas.conversations import Conversations
from services.canvas.layouts import Layouts
from services.canvas.limits import Limits
from services.canvas.others import Others
from services.canvas.panes import Panes
from services.canvas.service import CanvasService
from services.canvas.versions import Versions
from services.canvas.watching import Watching
from services.canvas.writing import Writing
from services.common.background import alongside
from services.common.cache import open_cache
from services.common.client import open_channel
from services.common.clock import new_id
from services.common.config import RoomConfig
from services.common.server import Served, open_ground, run, serve
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from soma.canvas.v1.canvas_service_pb2_grpc import add_CanvasServiceServicer_to_server


class CanvasConfig(RoomConfig, frozen=True, kw_only=True):
    agent: str
    """host:port of the agent."""
    watches: int = 2000
    """How many may watch at once."""
    panes: int = Limits().panes
    """How many panes a conversation may have."""
    text_bytes: int = Limits().text_bytes
    """How much they may hold."""
    versions: int = Limits().versions
    """How many versions are kept of a pane."""
    version_bytes: int = Limits().version_bytes
    """How much they may hold."""
    gone_panes: int = Limits().gone
    """Of how many deleted panes a resumed watch is told."""

    @property
    def limits(self) -> Limits:
        return Limits(self.panes, self.text_bytes, self.versions, self.version_bytes, self.gone_panes)


async def main(config: CanvasConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "canvas"))
        cache = await doors.enter_async_context(open_cache(config.cache_url))
        agent = await doors.enter_async_context(open_channel(ground.identity, config.agent, "agent"))
        bells = Bells(config.watches)
        others = Others(ground.db, cache, bells, me=new_id().bytes)
        bells.tell = others.tell
        for work, name in ((others.speak(), "tell"), (others.listen(), "listen"), (others.rounds(), "rounds")):
            await doors.enter_async_context(alongside(work, name=name))
        canvas = Canvas(ground.db, Conversations(ConversationServiceStub(agent)), bells, config.limits)
        watching = Watching(canvas)
        servicer = CanvasService(Panes(canvas), Versions(canvas), Layouts(canvas), watching, Writing(canvas))
        services = [Served("soma.canvas.v1.CanvasService", add_CanvasServiceServicer_to_server, servicer)]
        await serve(config, ground, services, lambda: watching.drain(config.drain_s / 2))


if __name__ == "__main__":
    run(main, CanvasConfig)
