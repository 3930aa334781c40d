"""What goes into the books: how each is asked of soma.book (migrations/control), and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from services.common import audit, events
from services.common.call import Call
from services.common.outbox import Row, row
from services.common.people.sealing import SubjectKey
from services.common.routing import decided_event, settled_event
from services.router import store
from services.router.budgets.room import Amount, Scopes
from services.router.store import Settlement
from soma.common.v1.model_pb2 import Decision
from soma.events.v1alpha1.routing_pb2 import RoutingEvent

MOST = 10**12
"""Nothing that a call holds or uses counts for more: a million dollars, or as many tokens. What a provider says beyond
it is absurd, and sums of it would not fit into Postgres' integers."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A call that is to begin, or to go on with another model."""

    call: Call
    decision: Decision
    turn: str
    scopes: Scopes
    most: Amount
    """What it can cost at most."""
    context_hash: str
    catalogue: Mapping[str, float] = field(default_factory=dict)
    """What the catalogue says of the quality of each model, by "provider/model"."""


@dataclass(frozen=True, slots=True)
class Admit:
    opening: Opening

    @property
    def call(self) -> Call:
        return self.opening.call

    def asked(self) -> dict[str, Any]:
        return held("admit", self.opening)

    def decided(self) -> dict[str, Any]:
        """What is written down of it."""
        o = self.opening
        return store.decided(o.call, o.decision, o.turn, o.context_hash)

    def told(self, key: SubjectKey | None, now: datetime) -> list[Row]:
        o = self.opening
        event = decided_event(o.turn, o.decision, o.context_hash, o.catalogue)
        name = f"decisions/{o.decision.id}"
        done = audit.event(o.call.caller, key, "routing.decided", o.call, now, resource=name)
        return [telling(event, o.call, key, now), row(done, o.call.traceparent)]


@dataclass(frozen=True, slots=True)
class Move:
    opening: Opening

    def asked(self) -> dict[str, Any]:
        return held("move", self.opening)


@dataclass(frozen=True, slots=True)
class Settle:
    call: Call
    settlement: Settlement

    def asked(self) -> dict[str, Any]:
        d, usage, used = self.settlement.decision, self.settlement.outcome.usage, used_by(self.settlement)
        return {
            "op": "settle", "call_id": d.id, "provider": d.provider, "model": d.model, "tier": d.tier,
            "microusd": used.microusd, "tokens": used.tokens, "requests": used.requests,
            "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
        }  # fmt: skip

    def told(self, key: SubjectKey | None, now: datetime) -> list[Row]:
        s = self.settlement
        return [telling(settled_event(s.turn, s.decision, s.outcome, s.finish_reason), self.call, key, now)]


@dataclass(frozen=True, slots=True)
class Renew:
    """Holds of calls that still run. Without any it only lets go of what has expired."""

    calls: Sequence[str]

    def asked(self) -> dict[str, Any]:
        return {"op": "renew", "calls": self.calls}


Entry: TypeAlias = Admit | Move | Settle | Renew


def telling(event: RoutingEvent, call: Call, key: SubjectKey | None, now: datetime) -> Row:
    """In the name of who calls."""
    caller = call.caller
    events.stamp(event, caller.tenant, key.pseudonym if key else caller.subject, now)
    return row(event, call.traceparent)


def held(op: str, opening: Opening) -> dict[str, Any]:
    d, s, most = opening.decision, opening.scopes, bounded(opening.most)
    return {
        "op": op, "call_id": d.id, "subject": s.user, "team": s.team, "conversation": s.conversation, "task": s.task,
        "key": s.key, "provider": d.provider, "model": d.model, "tier": d.tier, "microusd": most.microusd,
        "tokens": most.tokens, "requests": most.requests,
    }  # fmt: skip


def used_by(settlement: Settlement) -> Amount:
    """What a call has used. One that never reached a provider is no request."""
    o = settlement.outcome
    tokens = o.usage.input_tokens + o.usage.output_tokens
    has_ended = bool(settlement.finish_reason) and settlement.finish_reason != "cancelled"
    return bounded(Amount(o.cost_microusd, tokens, int(has_ended or tokens > 0 or o.cost_microusd > 0)))


def bounded(amount: Amount) -> Amount:
    return Amount(*(max(0, min(MOST, figure)) for figure in (amount.microusd, amount.tokens, amount.requests)))
