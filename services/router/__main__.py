"""The router room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from services.common.background import alongside, lasting
from services.common.cache import Cache, open_cache
from services.common.config import RoomConfig
from services.common.modes import ALLOWS
from services.common.server import Ground, Served, open_ground, run, serve
from services.router.admit import Admission
from services.router.budgets.books import LEASE_S, Books
from services.router.budgets.deeds import Budgets
from services.router.budgets.service import BudgetService
from services.router.catalog import Sources
from services.router.embed import Vectorizer
from services.router.eyes import Eyes
from services.router.feedback.feedback import Feedbacks
from services.router.feedback.service import FeedbackService
from services.router.front.service import CompletionsService, Front
from services.router.generate import Router
from services.router.keys.issue import Keys
from services.router.keys.ring import Ring
from services.router.keys.service import KeyService
from services.router.live import Live
from services.router.models.adapters import open_adapters
from services.router.models.embeddings import Embedder, open_embedder
from services.router.offers import Offer
from services.router.policies.held import Policies
from services.router.policies.service import PolicyService
from services.router.policies.versions import Versions
from services.router.prices import price_table
from services.router.providers.deeds import Providers
from services.router.providers.service import ProviderService
from services.router.providers.view import Seen
from services.router.replays import Replays
from services.router.service import RouterService
from services.router.shelf import Shelf
from services.router.vault_keys import VaultKeys
from soma.router.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from soma.router.v1.completions_service_pb2_grpc import add_CompletionsServiceServicer_to_server
from soma.router.v1.feedback_service_pb2_grpc import add_FeedbackServiceServicer_to_server
from soma.router.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from soma.router.v1.policy_service_pb2_grpc import add_PolicyServiceServicer_to_server
from soma.router.v1.provider_service_pb2_grpc import add_ProviderServiceServicer_to_server
from soma.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server


class RouterConfig(RoomConfig, frozen=True, kw_only=True):
    """The environment of this room."""

    providers_file: Path | None = None
    """The user's providers, as README.md describes them."""
    secrets_dir: Path | None = None
    """One file a provider, holding its key."""
    local_model_url: str = ""
    """http://host:port/v1 of the local model; empty for none."""
    embeddings_url: str = ""
    """http://host:port/v1 of what makes vectors of texts; empty for none."""
    lease_s: Annotated[float, Meta(ge=1, le=3600)] = LEASE_S
    """How long a budget holds money for a call that no router is seen to run any more."""


async def main(config: RouterConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "router"))
        cache = await doors.enter_async_context(open_cache(config.cache_url))
        adapters = await doors.enter_async_context(open_adapters())
        embedder = await doors.enter_async_context(open_embedder(config.embeddings_url))
        admission = await doors.enter_async_context(open_admission(config, ground, cache, embedder))
        router = Router(admission, adapters, ground.sight)
        services = services_of(ground, router, embedder)
        drain = lambda: router.drain(config.drain_s)  # noqa: E731
        await serve(config, ground, services, drain, router.is_able, Ring(ground.db))


@asynccontextmanager
async def open_admission(
    config: RouterConfig, ground: Ground, cache: Cache, embedder: Embedder
) -> AsyncIterator[Admission]:
    """What every call passes, and what keeps it up to date beside them."""
    eyes = Eyes(None, embedder)
    keys, live = VaultKeys(), Live(cache=cache)
    sources = sources_of(config, keys)
    shelf = Shelf(sources)
    books = Books(ground.db, ground.sight, lease_s=config.lease_s)
    policies = Policies(ground.db, cache, ground.sight, eyes.check)
    beside = {
        "catalogue": lambda: shelf.watch(lambda: live.keep_only(shelf.catalog.offers)),
        "leases": books.keep,
        "live figures": lambda: live.keep(ground.sight),
        "keys in Vault": lambda: keys.keep(sources.references),
        "news of policies": policies.listen,
        "policies": policies.look,
    }
    async with AsyncExitStack() as doors:
        for name, work in beside.items():
            await doors.enter_async_context(alongside(lasting(work, name=name), name=name))
        yield Admission(shelf, live, policies, books, eyes, config.mode, random.SystemRandom().random)


def sources_of(config: RouterConfig, keys: VaultKeys) -> Sources:
    return Sources(
        ALLOWS[config.mode], price_table(), config.local_model_url, config.providers_file, config.secrets_dir,
        from_vault=keys.secrets, embeddings_url=config.embeddings_url,
    )  # fmt: skip


def services_of(ground: Ground, router: Router, embedder: Embedder) -> list[Served]:
    db, admission = ground.db, router.admission
    policies, live = admission.policies, admission.live

    def offers() -> tuple[Offer, ...]:
        return admission.shelf.catalog.offers

    versions, seen = Versions(db, policies, offers), Seen(live.figures, live.standing)
    front = Front(router.generate, Vectorizer(admission, embedder.session).embed, offers, policies.rules, db.clock)
    served = (
        (add_RouterServiceServicer_to_server, RouterService(router, Replays(db))),
        (add_CompletionsServiceServicer_to_server, CompletionsService(front)),
        (add_FeedbackServiceServicer_to_server, FeedbackService(Feedbacks(db))),
        (add_BudgetServiceServicer_to_server, BudgetService(Budgets(db))),
        (add_PolicyServiceServicer_to_server, PolicyService(versions)),
        (add_ProviderServiceServicer_to_server, ProviderService(Providers(db, versions, offers, seen))),
        (add_KeyServiceServicer_to_server, KeyService(Keys(db, offers))),
    )
    return [Served(f"soma.router.v1.{type(one).__name__}", add, one) for add, one in served]


if __name__ == "__main__":
    run(main, RouterConfig)
