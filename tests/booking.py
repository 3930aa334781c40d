"""Books on a Postgres of their own, and calls to be written into them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from services.common import schema
from services.common.call import Call
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.db import Database, open_database
from services.router.budgets.books import Opening
from services.router.budgets.room import Amount, Scopes
from services.router.store import Settlement
from soma.common.v1.model_pb2 import Candidate, Decision, Usage
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, Outcome
from tests.stores import running_postgres

TENANTS = ("acme", "globex")


@dataclass(frozen=True, slots=True)
class Shop:
    """A Postgres with the router's tables."""

    admin_url: str
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://soma_router:test@{self.admin_url.rpartition('@')[2]}"

    @property
    def keys(self) -> str:
        return f"file://{self.folder / 'keys'}"

    @asynccontextmanager
    async def database(self, connections: int = 16) -> AsyncIterator[Database]:
        """As the router has it."""
        async with open_database(self.url, self.keys, SystemClock(), connections=connections) as db:
            yield db

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        """A connection of the administrator, who sees all tenants."""
        conn = await asyncpg.connect(self.admin_url)
        try:
            yield conn
        finally:
            await conn.close()

    async def rows(self, sql: str, *values: object) -> list[Mapping[str, Any]]:
        async with self.admin() as conn:
            return [dict(row) for row in await conn.fetch(sql, *values)]


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    async with running_postgres(folder / "postgres") as admin_url:
        await schema.migrate(admin_url, ["router"])
        await schema.set_room_password(admin_url, "router", "test")
        for tenant in TENANTS:
            await schema.add_tenant(admin_url, tenant, ["router"])
        yield Shop(admin_url, folder)


def call_of(person: str = "ann", tenant: str = "acme", team: str = "") -> Call:
    caller = Caller(tenant, person, frozenset({"member"}), frozenset(), team=team)
    request = GenerateRequest(messages=[Message(role="user", text="How much is it?")])
    return Call(
        "/soma.router.v1.RouterService/Generate", "", "spiffe://soma.local/ns/soma/sa/agent", "", caller, request
    )


def opening_of(
    call: Call, most: Amount, scopes: Scopes | None = None, tier: str = "standard", id: str = "", model: str = "gpt-x"
) -> Opening:
    candidate = Candidate(provider="acme-ai", model=model, tier=tier, score=0.5, probability=1.0, quality=0.7)
    decision = Decision(
        id=id or str(new_id()), provider="acme-ai", model=model, tier=tier, requested_tier=tier, candidates=[candidate],
        estimated_cost_microusd=most.microusd // 2, held_microusd=most.microusd, propensity=1.0, policy="policies/0",
    )  # fmt: skip
    scopes = scopes or Scopes(call.caller.subject, call.caller.team)
    return Opening(call, decision, "", scopes, most, "c" * 64)


def settlement_of(opening: Opening, used: Amount, finish_reason: str = "stop") -> Settlement:
    usage = Usage(input_tokens=used.tokens // 2, output_tokens=used.tokens - used.tokens // 2)
    outcome = Outcome(usage=usage, cost_microusd=used.microusd, finish_reason=finish_reason, first_token_ms=20)
    return Settlement(opening.turn, opening.decision, outcome, finish_reason)


ADD = """
INSERT INTO soma.budgets (tenant, id, scope, whose, period, rolling, tier, microusd, tokens, requests)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def add_budget(
    shop: Shop, scope: str = "tenant", whose: str = "", period: str = "day", tier: str = "", *, tenant: str = "acme",
    rolling: bool = False, microusd: int | None = None, tokens: int | None = None, requests: int | None = None,
) -> uuid.UUID:  # fmt: skip
    """Straight into the table, as the service writes it."""
    id = new_id()
    async with shop.admin() as conn:
        await conn.execute(ADD, tenant, id, scope, whose, period, rolling, tier, microusd, tokens, requests)
    return id
