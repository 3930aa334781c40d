"""The router room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

from services.common.background import alongside
from services.common.config import RoomConfig
from services.common.modes import ALLOWS
from services.common.server import Served, open_ground, run, serve
from services.router.admit import Admission
from services.router.budgets.books import Books
from services.router.catalog import Sources
from services.router.eyes import Blind
from services.router.generate import Router
from services.router.live import Live
from services.router.models.openai import open_openai
from services.router.models.scripted import Scripted
from services.router.policies.shelf import Policies
from services.router.prices import price_table
from services.router.service import RouterService
from services.router.shelf import Shelf
from soma.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server


class RouterConfig(RoomConfig):
    """The environment of this room."""

    providers_file: Path | None = None
    """The user's providers, as README.md describes them."""
    secrets_dir: Path | None = None
    """One file a provider, holding its key."""
    local_model_url: str = ""
    """http://host:port/v1 of the local model; empty for none."""
    embeddings_url: str = ""
    """http://host:port/v1 of what makes vectors of texts; empty for none."""


async def main(config: RouterConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "router"))
        openai = await doors.enter_async_context(open_openai())
        mode = ALLOWS[config.mode]
        shelf = Shelf(Sources(mode, price_table(), config.local_model_url, config.providers_file, config.secrets_dir))
        live, books, policies = Live(), Books(ground.db), Policies(ground.db)
        admission = Admission(shelf, live, policies, books, Blind(), config.mode, random.SystemRandom().random)
        router = Router(admission, {"openai": openai, "scripted": Scripted()}, ground.sight)
        watch = shelf.watch(lambda: live.keep_only(shelf.catalog.offers))
        await doors.enter_async_context(alongside(watch, name="catalogue"))
        await doors.enter_async_context(alongside(books.keep(), name="leases"))
        service = Served("soma.router.v1.RouterService", add_RouterServiceServicer_to_server, RouterService(router))
        await serve(config, ground, [service], drain=lambda: router.drain(config.drain_s), able=router.is_able)


if __name__ == "__main__":
    run(main, RouterConfig)
