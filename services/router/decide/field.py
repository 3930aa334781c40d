"""The offers as one shape of question finds them at any moment: what no figure can open is closed here, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.common.errors import NotFound
from services.common.learning.choose import Weights
from services.router.covers import EMBEDDINGS, covers, makes_vectors
from services.router.decide.question import AUTO, Shape
from services.router.offers import TIERS, Offer, away
from services.router.policies.rules import Rules
from soma.common.v1.model_pb2 import Candidate, ChoiceWeights, Decision
from soma.router.v1.routing_pb2 import Hints

NEVER = 1 << 62
"""More tokens than any question has."""


class Plan(NamedTuple):
    """What of an open offer is the same for all questions of a shape. A tuple, since it is taken apart each time."""

    offer: Offer
    name: str
    provider: str
    model: str
    tier: str
    window: int
    quarter: int
    """Of the window: the most of it that an answer keeps from a question (window.room_for_question)."""
    answer_tokens: int
    """Of an answer, when the request gives no bound."""
    latency_ms: int
    quality: float
    price_in: int
    price_out: int
    dearest_in: int
    rises_above: int
    """Tokens of a question; a longer one has another price."""
    seen: Candidate
    """What a decision says of it whatever is asked."""


@dataclass(frozen=True, slots=True)
class Field:
    """The offers as one shape of question finds them."""

    shape: Shape
    rules: Rules
    hints: Hints
    """As the policy lets them be."""
    plans: tuple[Plan, ...]
    """The offers that are open so far."""
    closed: tuple[Candidate, ...]
    offers: tuple[Offer, ...]
    """All of them."""
    begun: Decision = field(default_factory=Decision)
    """What a decision says whatever is asked, and whenever."""
    catalogue: Mapping[str, float] = field(default_factory=dict)
    """What is said of the quality of each open offer before anything is learned, by its name."""


def prepare(shape: Shape, offers: tuple[Offer, ...], rules: Rules) -> Field:
    """Raises NotFound MODEL_UNKNOWN when the hints name models, and there is none of them."""
    hints = rules.clamp(Hints.FromString(shape.hints))
    fitting = [offer for offer in offers if is_of_kind(offer, shape)]
    names = hints.models or shape.models
    if names and not any(is_asked(offer, hints.models, shape.models) for offer in fitting):
        named = ", ".join(hints.models or sorted(shape.models))
        raise NotFound("MODEL_UNKNOWN", f"There is no model {named} here. GET /v1/models lists what there is.")
    open_: list[Plan] = []
    closed: list[Candidate] = []
    for offer in fitting:
        why = unfit(offer, shape, hints, rules)
        if why:
            closed.append(candidate_of(offer, filter=why[0], closed=why[1]))
        else:
            open_.append(plan_of(offer))
    begun = Decision(requested_tier=shape.tier, policy=rules.name, weights=weights_said(rules.weights))
    catalogue = {plan.name: plan.quality for plan in open_}
    return Field(shape, rules, hints, tuple(open_), tuple(in_order(closed)), offers, begun, catalogue)


def weights_said(weights: Weights) -> ChoiceWeights:
    return ChoiceWeights(
        per_usd=weights.per_usd, per_s=weights.per_s, sharpness=weights.sharpness, most_explored=weights.most_explored
    )


def is_of_kind(offer: Offer, shape: Shape) -> bool:
    """It answers, or it makes vectors, as is asked for."""
    return makes_vectors(offer) == (EMBEDDINGS in shape.needs)


def is_asked(offer: Offer, hinted: Sequence[str], of_key: frozenset[str]) -> bool:
    if hinted and offer.model not in hinted and offer.name not in hinted:
        return False
    return covers(of_key, offer)


def unfit(offer: Offer, shape: Shape, hints: Hints, rules: Rules) -> tuple[str, str] | None:
    """The filter, and the sentence, for which the offer would not do at any moment; None when it would."""
    if not is_asked(offer, hints.models, shape.models):
        return "hint", "The request, or its key, names other models."
    if offer.closed:
        return offer.closed_by or "health", offer.closed
    if offer.tier not in rules.tiers:
        return "policy", f"The policy allows no model of the {offer.tier} tier."
    if shape.tier != AUTO and TIERS.index(offer.tier) < TIERS.index(shape.tier):
        return "tier", f"It is of the {offer.tier} tier, above the one that was asked for."
    if lacking := shape.needs - offer.capabilities:
        return "capability", f"It cannot do this: {', '.join(sorted(lacking))}."
    if where := not_where(offer, hints):
        return "jurisdiction", where
    if offer.price is None:
        give = f"soma provider add {offer.provider.name} … --price-in … --price-out …"
        return "price", f"Its price is unknown. Give it: {give}, or a ceiling in the policy."
    return None


def not_where(offer: Offer, hints: Hints) -> str:
    """Why the text may not be read there; empty when it may."""
    if hints.sensitivity == "secret" and not offer.provider.is_here:
        return "The text is secret, and stays on this machine."
    return away(offer.provider, hints.jurisdictions)


def candidate_of(offer: Offer, *, filter: str, closed: str) -> Candidate:
    """What was closed before any figure was looked at."""
    return Candidate(
        provider=offer.provider.name,
        model=offer.model,
        tier=offer.tier,
        closed=closed,
        filter=filter,
        quality=offer.quality,
        latency_ms=offer.latency_ms,
        window_tokens=offer.window,
    )


def plan_of(offer: Offer) -> Plan:
    price = offer.price
    if price is None:
        raise ValueError(f"{offer.name} has no price, and was not closed for it")
    return Plan(
        offer, offer.name, offer.provider.name, offer.model, offer.tier, offer.window, offer.window // 4,
        offer.max_tokens, offer.latency_ms, offer.quality, price.price_in, price.price_out, price.dearest_in,
        price.above.tokens if price.above else NEVER,
        Candidate(provider=offer.provider.name, model=offer.model, tier=offer.tier, window_tokens=offer.window),
    )  # fmt: skip


def in_order(closed: Iterable[Candidate]) -> list[Candidate]:
    """By tier, then by name."""
    return sorted(closed, key=lambda c: (TIERS.index(c.tier), c.provider, c.model))
