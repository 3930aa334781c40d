"""What is told of a decision and of how its answer ended: by the router, and by whoever has to tell it again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from soma.common.v1.model_pb2 import Candidate, Decision
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.router.v1.routing_pb2 import Outcome

NOTHING: Mapping[str, float] = MappingProxyType({})


def decided_event(
    turn: str, decision: Decision, context_hash: str, catalogue: Mapping[str, float] = NOTHING
) -> RoutingEvent:
    """Where there was a choice, with what the trainer needs: the open candidates of the tier it was chosen from, their
    chances, and what the catalogue says of the quality of each, by "provider/model"."""
    event = event_of("routing.decided", turn, decision)
    event.cost_microusd, event.held_microusd = decision.estimated_cost_microusd, decision.held_microusd
    if decision.candidates:
        event.score = decision.candidates[0].score
    if decision.policy:
        event.policy = decision.policy
    if context_hash:
        event.context_hash = context_hash
    if decision.features:
        event.features = numbers(decision.features)
    if len(chosen_from := rivals(decision)) > 1:
        event.propensity = repr(decision.propensity)
        event.candidates = " ".join(f"{c.provider}/{c.model}" for c in chosen_from)
        event.probabilities = numbers(c.probability for c in chosen_from)
        event.qualities = numbers(c.quality for c in chosen_from)
        event.costs = numbers(c.cost_microusd for c in chosen_from)
        event.latencies = numbers(c.latency_ms for c in chosen_from)
        event.catalogue = numbers(catalogue.get(f"{c.provider}/{c.model}", c.quality) for c in chosen_from)
    return event


def settled_event(turn: str, decision: Decision, outcome: Outcome, finish_reason: str) -> RoutingEvent:
    """`finish_reason` is the outcome's, or "cancelled" when nobody waited for the end."""
    event = event_of("routing.settled", turn, decision)
    event.cost_microusd = outcome.cost_microusd
    event.input_tokens, event.output_tokens = outcome.usage.input_tokens, outcome.usage.output_tokens
    event.first_token_ms = outcome.first_token_ms
    if finish_reason:
        event.finish_reason = finish_reason
    if outcome.failure.reason:
        event.reason = outcome.failure.reason
    return event


def event_of(kind: str, turn: str, d: Decision) -> RoutingEvent:
    return RoutingEvent(
        type=kind, decision=d.id, turn=turn or None, requested_tier=d.requested_tier, provider=d.provider,
        model=d.model, tier=d.tier,
    )  # fmt: skip


def rivals(decision: Decision) -> list[Candidate]:
    """The candidates among which chance chose."""
    return [c for c in decision.candidates if c.probability > 0]


def numbers(values: Iterable[float]) -> str:
    return " ".join(map(repr, values))
