"""Decisions in Postgres: the rows, and the events that go into the outbox with them."""

from __future__ import annotations

from dataclasses import dataclass

from services.common import events
from services.common.caller import Caller
from services.common.db import Database
from soma.common.v1.model_pb2 import Decision
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.router.v1.routing_pb2 import Outcome

INSERT = """
INSERT INTO decisions (id, subject, turn, requested_tier, provider, model, tier, decision, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
SETTLE = """
UPDATE decisions SET provider = $2, model = $3, tier = $4, decision = $5, input_tokens = $6, output_tokens = $7,
    estimated = $8, cost_microusd = $9, first_token_ms = $10, finish_reason = $11, reason = $12, settle_time = $13
WHERE id = $1 AND settle_time IS NULL RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an answer ended, ready to be written down."""

    turn: str
    decision: Decision
    outcome: Outcome
    finish_reason: str
    """The outcome's, or "cancelled" when nobody waited for the end."""


class AlreadySettled(Exception):  # noqa: N818 - rolls a repeated write back
    """An earlier try had come through."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One transaction a step: row, event and audit together."""

    db: Database

    async def check_tenant(self, caller: Caller) -> None:
        """Raise Denied TENANT_UNKNOWN unless this mesh serves the caller's tenant, Unavailable STORE_UNAVAILABLE."""
        async with self.db.tenant(caller):
            return

    async def decided(self, caller: Caller, turn: str, decision: Decision) -> None:
        """Write a decision down. Raises Unavailable STORE_UNAVAILABLE."""
        d = decision
        async with self.db.tenant(caller, action="routing.decided") as tx:
            tx.about(f"decisions/{d.id}")
            values = (d.id, caller.subject, turn, d.requested_tier, d.provider, d.model, d.tier, d.SerializeToString())
            await tx.execute(INSERT, *values, tx.clock.now())
            await events.append(tx, decided_event(turn, decision))

    async def settled(self, caller: Caller, settlement: Settlement) -> None:
        """Complete a decision. May be repeated. Raises Unavailable STORE_UNAVAILABLE."""
        d, o = settlement.decision, settlement.outcome
        try:
            async with self.db.tenant(caller, action="routing.settled") as tx:
                tx.about(f"decisions/{d.id}")
                row = await tx.fetchrow(
                    SETTLE, d.id, d.provider, d.model, d.tier, d.SerializeToString(), o.usage.input_tokens,
                    o.usage.output_tokens, o.usage.estimated, o.cost_microusd, o.first_token_ms,
                    settlement.finish_reason, o.failure.reason, tx.clock.now(),
                )  # fmt: skip
                if row is None:
                    raise AlreadySettled
                await events.append(tx, settled_event(settlement))
        except AlreadySettled:
            return


def decided_event(turn: str, decision: Decision) -> RoutingEvent:
    return RoutingEvent(
        type="routing.decided",
        decision=decision.id,
        turn=turn or None,
        requested_tier=decision.requested_tier,
        provider=decision.provider,
        model=decision.model,
        tier=decision.tier,
        score=decision.candidates[0].score,
        cost_microusd=decision.estimated_cost_microusd,
    )


def settled_event(settlement: Settlement) -> RoutingEvent:
    outcome = settlement.outcome
    event = decided_event(settlement.turn, settlement.decision)
    event.type = "routing.settled"
    event.cost_microusd = outcome.cost_microusd
    event.input_tokens, event.output_tokens = outcome.usage.input_tokens, outcome.usage.output_tokens
    event.first_token_ms = outcome.first_token_ms
    if settlement.finish_reason:
        event.finish_reason = settlement.finish_reason
    if outcome.failure.reason:
        event.reason = outcome.failure.reason
    return event
