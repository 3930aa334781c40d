"""Which model answers, and why. Pure: the same question, offers and figures give the same decision.

The requested tier is tried first, then each one below it. What cannot answer is closed, with a sentence. Inside a tier
the score is the mean of two ratios, cheapest price to its price and shortest wait to its wait: 1 is the best in both.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.errors import Exhausted, Invalid, Refusal, Unavailable
from services.router.offers import TIERS, Figures, Offer
from services.router.window import Size, room_for_question
from soma.common.v1.model_pb2 import Candidate, Decision

DEFAULT_TIER = "standard"
EXPECTED_OUTPUT_TOKENS = 300
MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """What a decision needs to know of a request."""

    tier: str
    size: Size
    max_tokens: int = 0
    """The bound that the request gives; 0 when it gives none."""

    @property
    def requested_tier(self) -> str:
        return self.tier or DEFAULT_TIER


@dataclass(frozen=True, slots=True)
class Closed:
    """The filter that an offer did not pass."""

    reason: str
    """What the refusal would be if every offer were closed by this filter."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer as the decision saw it."""

    offer: Offer
    figures: Figures
    closed: Closed | None
    cost_microusd: int
    score: float = 0.0

    @property
    def latency_ms(self) -> int:
        return self.offer.latency_ms if self.figures.latency_ms is None else self.figures.latency_ms

    def candidate(self) -> Candidate:
        return Candidate(
            provider=self.offer.provider.name,
            model=self.offer.model,
            tier=self.offer.tier,
            closed=self.closed.sentence if self.closed else "",
            score=self.score,
            cost_microusd=self.cost_microusd,
            latency_ms=self.latency_ms,
        )


def decide(
    question: Question, offers: Sequence[Offer], figures_of: Callable[[Offer], Figures], prices: str, id: uuid.UUID
) -> Decision:
    """The decision, with every offer among its candidates. Raises Unavailable MODEL_UNAVAILABLE when none is open,
    Invalid CONTEXT_TOO_LONG when only the windows are too small, Exhausted MODEL_BUSY when only the queues are full."""
    seen = [examine(question, offer, figures_of(offer)) for offer in offers]
    ranked = [one for tier in TIERS for one in rank([r for r in seen if r.offer.tier == tier and not r.closed])]
    closed = sorted((r for r in seen if r.closed), key=lambda r: (TIERS.index(r.offer.tier), r.offer.key))
    if not ranked:
        raise refusal(question, closed)
    chosen = ranked[0]
    return Decision(
        id=str(id),
        provider=chosen.offer.provider.name,
        model=chosen.offer.model,
        tier=chosen.offer.tier,
        requested_tier=question.requested_tier,
        candidates=[r.candidate() for r in (*ranked, *closed)],
        estimated_cost_microusd=chosen.cost_microusd,
        window_tokens=chosen.offer.window,
        why=why(question, ranked),
        prices=prices,
    )


def next_after(decision: Decision, failed: str, offers: Sequence[Offer]) -> Decision | None:
    """The decision for the next open candidate, after the chosen one failed with that sentence. None without one."""
    tried, *rest = decision.candidates
    nexts = [c for c in rest if not c.closed]
    if not nexts:
        return None
    chosen = nexts[0]
    offer = next(o for o in offers if o.key == (chosen.provider, chosen.model))
    again = Decision()
    again.CopyFrom(decision)
    del again.candidates[:]
    again.candidates.extend(rest)
    again.candidates.add().CopyFrom(tried)
    again.candidates[-1].closed, again.candidates[-1].score = failed, 0.0
    again.provider, again.model, again.tier = chosen.provider, chosen.model, chosen.tier
    again.estimated_cost_microusd, again.window_tokens = chosen.cost_microusd, offer.window
    again.why = f"{chosen.model} answers because {tried.model} did not: {failed}"
    return again


def examine(question: Question, offer: Offer, figures: Figures) -> Ranked:
    room = room_for_question(offer.window, question.max_tokens or offer.max_tokens)
    return Ranked(offer, figures, closed_for(question, offer, figures, room), cost_of(question, offer, room))


def closed_for(question: Question, offer: Offer, figures: Figures, room: int) -> Closed | None:
    """The first filter that the offer does not pass; None when it passes all."""
    sentence = unfit(question, offer) or figures.closed
    if sentence:
        return Closed("MODEL_UNAVAILABLE", sentence)
    if question.size.least > room:
        needs = f"The message needs about {question.size.least:,} tokens; {room:,} fit its window."
        return Closed("CONTEXT_TOO_LONG", needs)
    return Closed("MODEL_BUSY", "Its queue is full.") if figures.busy else None


def unfit(question: Question, offer: Offer) -> str:
    """Why the offer would not do at any moment; empty when it would."""
    if TIERS.index(offer.tier) < TIERS.index(question.requested_tier):
        return f"It is of the {offer.tier} tier, above the one that was asked for."
    if offer.closed or offer.price is not None:
        return offer.closed
    return f"Its price is unknown. Give it: soma provider add {offer.provider.name} … --price-in … --price-out …"


def cost_of(question: Question, offer: Offer, room: int) -> int:
    """The estimated price in micro-USD: the question as it will be cut, and an answer of usual length."""
    if offer.price is None:
        return 0
    output_tokens = min(question.max_tokens or offer.max_tokens, EXPECTED_OUTPUT_TOKENS)
    return offer.price.cost_microusd(min(question.size.total, room), output_tokens)


def rank(tier: Sequence[Ranked]) -> list[Ranked]:
    """The open offers of one tier with their scores, best first; equal ones by price, wait and name."""
    if not tier:
        return []
    cheapest = min(r.cost_microusd for r in tier)
    fastest = min(r.latency_ms for r in tier)
    scored = [Ranked(r.offer, r.figures, r.closed, r.cost_microusd, score=score(r, cheapest, fastest)) for r in tier]
    return sorted(scored, key=lambda r: (-r.score, r.cost_microusd, r.latency_ms, r.offer.key))


def score(ranked: Ranked, cheapest_microusd: int, fastest_ms: int) -> float:
    """0 to 1. One is added to each figure, so that a free or an instant model divides nothing by zero."""
    cost = (cheapest_microusd + 1) / (ranked.cost_microusd + 1)
    latency = (fastest_ms + 1) / (ranked.latency_ms + 1)
    return round((cost + latency) / 2, 4)


def why(question: Question, ranked: Sequence[Ranked]) -> str:
    chosen, tier = ranked[0].offer, ranked[0].offer.tier
    rivals = sum(r.offer.tier == tier for r in ranked)
    if tier != question.requested_tier:
        return f"{chosen.model} answers because no model of the {question.requested_tier} tier is open."
    if rivals == 1:
        return f"{chosen.model} is the only open model of the {tier} tier."
    return f"{chosen.model} has the best balance of cost and wait among {rivals} open models of the {tier} tier."


def refusal(question: Question, closed: Sequence[Ranked]) -> Refusal:
    """Why nothing is open, from the offers that came closest."""
    tiers = TIERS[TIERS.index(question.requested_tier) :]
    by = {
        reason: [r for r in closed if r.closed and r.closed.reason == reason and r.offer.tier in tiers]
        for reason in ("MODEL_BUSY", "CONTEXT_TOO_LONG", "MODEL_UNAVAILABLE")
    }
    if by["MODEL_BUSY"]:
        return busy(by["MODEL_BUSY"])
    if by["CONTEXT_TOO_LONG"]:
        return too_long(question, by["CONTEXT_TOO_LONG"])
    return unavailable(question, by["MODEL_UNAVAILABLE"])


def busy(full: Sequence[Ranked]) -> Exhausted:
    soon = max(1.0, min(r.figures.retry_after_s for r in full))
    return Exhausted("MODEL_BUSY", "Every open model has a full queue. Try again soon.", retry_after_s=soon)


def too_long(question: Question, small: Sequence[Ranked]) -> Invalid:
    needs = question.size.least
    fits = max(room_for_question(r.offer.window, question.max_tokens or r.offer.max_tokens) for r in small)
    message = (
        f"The message needs about {needs:,} tokens, and {fits:,} fit the largest open model. "
        "Shorten it, or ask for a higher tier."
    )
    return Invalid("CONTEXT_TOO_LONG", message, needs_tokens=str(needs), fits_tokens=str(fits))


def unavailable(question: Question, closed: Sequence[Ranked]) -> Unavailable:
    reasons = " ".join(
        f"{r.offer.provider.name}/{r.offer.model}: {r.closed.sentence}" for r in closed[:MOST_REASONS] if r.closed
    )
    message = f"No model of the {question.requested_tier} tier or below is open. {reasons}".rstrip()
    return Unavailable("MODEL_UNAVAILABLE", message, retry_after_s=5)
