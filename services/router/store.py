"""Decisions as they are written down (migrations/control/004_writing.sql)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.common.call import Call
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.routing_pb2 import Outcome


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an answer ended, ready to be written down."""

    turn: str
    decision: Decision
    outcome: Outcome
    finish_reason: str
    """The outcome's, or "cancelled" when nobody waited for the end."""
    has_moved: bool = False
    """Another model took over: the decision is not the one that was admitted."""


def decided(call: Call, decision: Decision, turn: str, context_hash: str) -> dict[str, Any]:
    """As JSON."""
    return {
        "id": decision.id, "subject": call.caller.subject, "turn": turn, "requested_tier": decision.requested_tier,
        "context_hash": context_hash, **chosen(decision),
    }  # fmt: skip


def settled(settlement: Settlement) -> dict[str, Any]:
    """As JSON."""
    outcome, usage = settlement.outcome, settlement.outcome.usage
    return {
        "id": settlement.decision.id, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
        "estimated": usage.estimated, "cost_microusd": outcome.cost_microusd,
        "first_token_ms": outcome.first_token_ms, "finish_reason": settlement.finish_reason,
        "reason": outcome.failure.reason, **(chosen(settlement.decision) if settlement.has_moved else {}),
    }  # fmt: skip


def chosen(decision: Decision) -> dict[str, Any]:
    """With the decision's bytes, which JSON has in base64."""
    whole = decision.SerializeToString()
    return {"provider": decision.provider, "model": decision.model, "tier": decision.tier, "decision": whole}
