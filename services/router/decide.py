"""Which model answers, and why. Pure: the same question, offers and figures give the same decision.

`prepare` closes what no figure can open: by tier, mode, policy, hints, jurisdiction and capability. `decide` closes by
what moves: context, health, queue, hints in money and time, budgets. The requested tier is tried first, then each one
below it; "auto" takes all tiers as one. Inside a tier the choice is `choose`'s. All that the choice rests on stands in
the decision, so that `replay` makes it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from services.common.errors import Exhausted, Invalid, NotFound, Refusal, Unavailable
from services.common.learning.choose import Weights, pick, probabilities, score_of
from services.router.budgets.room import Amount, Left, Room
from services.router.covers import EMBEDDINGS, covers, makes_vectors
from services.router.offers import MILLION, TIERS, Figures, Offer, Price, away
from services.router.policies.rules import Rules
from services.router.window import Size, room_for_question
from soma.common.v1.model_pb2 import Candidate, ChoiceWeights, Decision
from soma.router.v1.routing_pb2 import Hints

DEFAULT_TIER = "standard"
AUTO = "auto"
EXPECTED_OUTPUT_TOKENS = 300
MOST_REASONS = 3
NEVER = 1 << 62
"""More tokens than any question has."""
TRIED = "tried"
"""The filter of those that were asked, and failed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a question closes offers whatever the hour. Many questions are alike in it."""

    tier: str = DEFAULT_TIER
    """ "auto", or where to begin."""
    needs: frozenset[str] = frozenset()
    """Of "tools", "json", "vision" and "embeddings"."""
    hints: bytes = b""
    """The request's Hints."""
    models: frozenset[str] = frozenset()
    """The only ones that the caller's key may use, by their names. None: all."""


@dataclass(frozen=True, slots=True)
class Question:
    """What differs from one question to the next."""

    size: Size
    max_tokens: int = 0
    """The bound that the request gives; 0 when it gives none."""
    features: Sequence[float] = ()
    """What the learned part sees of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision needs to know beside the question."""

    figures_of: Callable[[Offer], Figures]
    qualities: Mapping[str, float] = field(default_factory=dict)
    """What was learned of offers for this question, by their names."""
    room: Room = ()
    draw: float = 0.0
    prices: str = ""
    mode: str = ""


class Rated(NamedTuple):
    """An open offer as one question found it. In the order of its fields the best is the least."""

    minus_score: float
    cost_microusd: int
    latency_ms: int
    provider: str
    model: str
    tier: str
    quality: float
    held_microusd: int
    seen: Candidate
    """With all that is not above, and copied: that takes half the time of making it."""


def by_tier(rated: Rated) -> int:
    return TIERS.index(rated.tier)


class Plan(NamedTuple):
    """What of an open offer is the same for all questions of a shape. A tuple, since it is taken apart each time."""

    offer: Offer
    name: str
    provider: str
    model: str
    tier: str
    window: int
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
    weights: ChoiceWeights = field(default_factory=ChoiceWeights)
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
    weights = rules.weights
    return Field(
        shape, rules, hints, tuple(open_), tuple(in_order(closed)), offers,
        ChoiceWeights(per_usd=weights.per_usd, per_s=weights.per_s, sharpness=weights.sharpness,
                      most_explored=weights.most_explored),
        {plan.name: plan.quality for plan in open_},
    )  # fmt: skip


def decide(question: Question, field: Field, moment: Moment, id: uuid.UUID) -> Decision:
    """The decision, with every offer among its candidates. Raises Exhausted MODEL_BUSY or BUDGET_SPENT, Invalid
    CONTEXT_TOO_LONG, Unavailable MODEL_UNAVAILABLE: the first for which something would be open but for it."""
    decision = Decision(
        id=str(id),
        requested_tier=field.shape.tier,
        prices=moment.prices,
        policy=field.rules.name,
        mode=moment.mode,
        weights=field.weights,
        draw=moment.draw,
        features=question.features,
    )
    open_, shut = examine(question, field, moment)
    if not choose(decision, open_, in_order([*shut, *field.closed]) if shut else field.closed, field.rules.weights):
        raise refusal(question, field, moment, shut)
    return decision


def replay(recorded: Decision) -> Decision:
    """The decision again, from its candidates' figures, its weights and its draw."""
    again, weights = copied(recorded), weights_in(recorded)
    del again.candidates[:]
    choose(again, rated(recorded.candidates, weights), [c for c in recorded.candidates if c.filter], weights)
    again.why = why_moved(again) or again.why
    return again


def next_after(decision: Decision, failed: str) -> Decision | None:
    """The decision among what is left, after the chosen candidate failed with that sentence. None without one."""
    again, weights = copied(decision), weights_in(decision)
    closed = Candidate()
    closed.CopyFrom(decision.candidates[0])
    closed.filter, closed.closed, closed.score, closed.probability = TRIED, failed, 0.0, 0.0
    shut = in_order([closed, *(c for c in decision.candidates if c.filter)])
    left = rated(decision.candidates[1:], weights)
    del again.candidates[:]
    if not choose(again, left, shut, weights):
        return None
    again.why = why_moved(again)
    return again


def choose(decision: Decision, open_: list[Rated], closed: Iterable[Candidate], weights: Weights) -> bool:
    """Draw one of the first tier, and fill the decision in. False when none is open."""
    if not open_:
        return False
    open_.sort()
    first = open_
    if decision.requested_tier != AUTO:
        open_.sort(key=by_tier)
        first = [rated for rated in open_ if rated.tier == open_[0].tier]
    if weights.most_explored > 0:
        chances = probabilities([-rated.minus_score for rated in first], weights)
    else:
        chances = [1.0, *repeat(0.0, len(first) - 1)]
    at = pick(chances, decision.draw)
    best, chosen, chance = open_[0], open_.pop(at), chances.pop(at)
    add = decision.candidates.add
    for rated, probability in zip((chosen, *open_), (chance, *chances, *repeat(0.0, len(open_))), strict=False):
        minus_score, cost, latency_ms, _, _, _, quality, held, seen = rated
        candidate = add()
        candidate.CopyFrom(seen)
        candidate.score, candidate.quality = -minus_score, quality
        candidate.cost_microusd, candidate.latency_ms, candidate.held_microusd = cost, latency_ms, held
        candidate.probability = probability
    decision.candidates.extend(closed)
    decision.provider, decision.model, decision.tier = chosen.provider, chosen.model, chosen.tier
    decision.estimated_cost_microusd, decision.held_microusd = chosen.cost_microusd, chosen.held_microusd
    decision.window_tokens, decision.propensity = chosen.seen.window_tokens, chance
    decision.why = why(decision, chosen, best, len(chances) + 1)
    return True


def rated(candidates: Iterable[Candidate], weights: Weights) -> list[Rated]:
    """The open ones as they were seen, scored again."""
    return [
        Rated(
            -score_of(c.quality, c.cost_microusd, c.latency_ms, weights), c.cost_microusd, c.latency_ms, c.provider,
            c.model, c.tier, c.quality, c.held_microusd, c,
        )
        for c in candidates if not c.filter
    ]  # fmt: skip


def in_order(closed: Iterable[Candidate]) -> list[Candidate]:
    """By tier, then by name."""
    return sorted(closed, key=lambda c: (TIERS.index(c.tier), c.provider, c.model))


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


def examine(question: Question, field: Field, moment: Moment) -> tuple[list[Rated], list[Candidate]]:
    """The offers as they stand at this moment: open ones with their scores, and closed ones."""
    open_: list[Rated] = []
    shut: list[Candidate] = []
    asked, least, max_tokens = question.size.total, question.size.least, question.max_tokens
    qualities, figures_of, hints, weights = moment.qualities, moment.figures_of, field.hints, field.rules.weights
    is_bounded = bool(hints.max_cost_microusd or hints.max_latency_ms or hints.min_quality)
    per_usd, per_s = weights.per_usd, weights.per_s
    for plan in field.plans:
        (
            offer, name, provider, model, tier, window, answer, latency_ms, quality, price_in, price_out, dearest,
            rises_above, seen,
        ) = plan  # fmt: skip
        figures = figures_of(offer)
        answer = max_tokens or answer
        fits = window - min(answer, window // 4)  # window.room_for_question, without a call
        total = asked if asked < fits else fits
        if total > rises_above and (long := price_at(offer, total)):
            price_in, price_out, dearest = long.price_in, long.price_out, long.dearest_in
        output = answer if answer < EXPECTED_OUTPUT_TOKENS else EXPECTED_OUTPUT_TOKENS
        cost = -(-(total * price_in + output * price_out) // MILLION)
        answer = answer if answer < window else window
        held = -(-(total * dearest + answer * price_out) // MILLION)
        if figures.latency_ms is not None:
            latency_ms = figures.latency_ms
        if qualities:
            quality = qualities.get(name, quality)
        filter, closed = "", ""
        if figures.closed or figures.busy or least > fits or is_bounded or moment.room:
            now = Now(figures, fits, least, cost, latency_ms, quality, Amount(held, total + answer))
            filter, closed = closed_now(tier, now, hints, moment.room)
        if filter:
            shut.append(
                Candidate(
                    provider=provider, model=model, tier=tier, closed=closed, cost_microusd=cost, filter=filter,
                    latency_ms=latency_ms, quality=quality, held_microusd=held, window_tokens=window,
                )
            )  # fmt: skip
        else:  # as choose.score_of has it, to the last bit
            minus_score = -(quality - per_usd * cost / 1e6 - per_s * latency_ms / 1e3)
            open_.append(Rated(minus_score, cost, latency_ms, provider, model, tier, quality, held, seen))
    return open_, shut


def price_at(offer: Offer, input_tokens: int) -> Price | None:
    return offer.price.at(input_tokens) if offer.price else None


def most_of(question: Question, offer: Offer) -> Amount:
    """The most that the call can cost and use: what budgets hold for it."""
    answer_tokens = min(question.max_tokens or offer.max_tokens, offer.window)
    total = min(question.size.total, room_for_question(offer.window, answer_tokens))
    microusd = offer.price.most_microusd(total, answer_tokens) if offer.price else 0
    return Amount(microusd, total + answer_tokens)


@dataclass(frozen=True, slots=True)
class Now:
    """An offer's figures for one question."""

    figures: Figures
    fits: int
    """Tokens of a question."""
    least: int
    cost_microusd: int
    latency_ms: int
    quality: float
    most: Amount


def closed_now(tier: str, now: Now, hints: Hints, room: Room) -> tuple[str, str]:
    """The first filter that an offer does not pass now, and its sentence; both empty when it passes all."""
    if now.figures.closed:
        return "health", now.figures.closed
    if now.least > now.fits:
        return "context", f"The message needs about {now.least:,} tokens; {now.fits:,} fit its window."
    if unwanted := beyond(now, hints):
        return "hint", unwanted
    for left in room:
        if left.tier in ("", tier) and left.is_short_of(now.most):
            return "budget", short(left, now.most)
    return ("busy", "Its queue is full.") if now.figures.busy else ("", "")


def beyond(now: Now, hints: Hints) -> str:
    """Which bound of the hints it breaks; empty when none."""
    if hints.max_cost_microusd and now.cost_microusd > hints.max_cost_microusd:
        most = dollars(hints.max_cost_microusd)
        return f"It would cost about {dollars(now.cost_microusd)}, and {most} is the most."
    if hints.max_latency_ms and now.latency_ms > hints.max_latency_ms:
        return f"Its first text takes about {now.latency_ms:,} ms, and {hints.max_latency_ms:,} is the most."
    if now.quality < hints.min_quality:
        return f"Its expected quality is {now.quality:.2f}, and {hints.min_quality:.2f} is the least."
    return ""


def short(left: Left, most: Amount) -> str:
    """Which budget has too little left, for a person."""
    if left.microusd is not None and most.microusd > left.microusd:
        what = f"It could cost {dollars(most.microusd)}, and {dollars(max(0, left.microusd))} is left"
    elif left.tokens is not None and most.tokens > left.tokens:
        what = f"It could use {most.tokens:,} tokens, and {max(0, left.tokens):,} are left"
    else:
        what = "No call is left"
    renewal = f", which renews at {left.renews:%Y-%m-%d %H:%M} UTC" if left.renews else ""
    return f"{what} of {left.title}{renewal}."


def dollars(microusd: int) -> str:
    return f"${microusd / 1e6:.6f}".rstrip("0").rstrip(".") if microusd % 10_000 else f"${microusd / 1e6:.2f}"


def why(decision: Decision, chosen: Rated, best: Rated, rivals: int) -> str:
    tier = "of all tiers" if decision.requested_tier == AUTO else f"of the {chosen.tier} tier"
    if chosen is not best:
        return f"{chosen.model} is tried out, to learn how good it is: {best.model} has the better score."
    if decision.requested_tier not in (AUTO, chosen.tier):
        return f"{chosen.model} answers because no model of the {decision.requested_tier} tier is open."
    if rivals == 1:
        return f"{chosen.model} is the only open model {tier}."
    return f"{chosen.model} has the best balance of quality, cost and wait among {rivals} open models {tier}."


def why_moved(decision: Decision) -> str:
    """Who was tried before the one that answers, and what became of it; empty when nobody was."""
    tried = " Nor did ".join(
        f"{c.model}{'' if n else ' did not'}: {c.closed}"
        for n, c in enumerate(c for c in decision.candidates if c.filter == TRIED)
    )
    return tried and f"{decision.model} answers because {tried}"


def refusal(question: Question, field: Field, moment: Moment, seen: Sequence[Candidate]) -> Refusal:
    """Why nothing is open, from the offers that came closest."""
    if any(c.filter == "busy" for c in seen):
        full = [figures for plan in field.plans if (figures := moment.figures_of(plan.offer)).busy]
        soon = max(1.0, min((figures.retry_after_s for figures in full), default=1.0))
        return Exhausted("MODEL_BUSY", "Every open model has a full queue. Try again soon.", retry_after_s=soon)
    if any(c.filter == "budget" for c in seen):
        return spent(question, field, moment, {(c.provider, c.model) for c in seen if c.filter == "budget"})
    if any(c.filter == "context" for c in seen):
        return too_long(question, field)
    return unavailable(field, seen)


def spent(question: Question, field: Field, moment: Moment, closed: Collection[tuple[str, str]]) -> Exhausted:
    """Which budget is short for the cheapest model that one closed, what is left, when it renews, which cheaper tier is
    open."""
    offers = (plan.offer for plan in field.plans if plan.offer.key in closed)
    offer = min(offers, key=lambda offer: most_of(question, offer).microusd)
    most = most_of(question, offer)
    left = next((one for one in moment.room if one.tier in ("", offer.tier) and one.is_short_of(most)), None)
    if left is None:
        return Exhausted("BUDGET_SPENT", "The budget has no room for this call just now. Try again.", retry_after_s=1)
    cheaper = cheaper_tier(question, field, moment, offer.tier)
    hint = f' The tier "{cheaper}" is open: ask for that.' if cheaper else " Ask an admin of your tenant for more."
    facts = {"budget": left.budget, "cheaper_tier": cheaper}
    for name, value in (("microusd", left.microusd), ("tokens", left.tokens), ("requests", left.requests)):
        if value is not None:
            facts[f"left_{name}"] = str(max(0, value))
    if left.renews:
        facts["renew_time"] = f"{left.renews:%Y-%m-%dT%H:%M:%SZ}"
    message = f"{offer.model}: {short(left, most)}{hint}"
    return Exhausted("BUDGET_SPENT", message, retry_after_s=None, **facts)


def cheaper_tier(question: Question, field: Field, moment: Moment, than: str) -> str:
    """The best tier below one in which a model would be open but for the hints that name others; empty for none."""
    hints = Hints()
    hints.CopyFrom(field.hints)
    del hints.models[:]
    shape = Shape(AUTO, field.shape.needs, hints.SerializeToString(), field.shape.models)
    alike = [offer for offer in field.offers if is_of_kind(offer, shape)]
    fitting = tuple(plan_of(offer) for offer in alike if not unfit(offer, shape, hints, field.rules))
    open_, _ = examine(question, Field(shape, field.rules, hints, fitting, (), ()), moment)
    tiers = {rated.tier for rated in open_}
    return next((tier for tier in TIERS[TIERS.index(than) + 1 :] if tier in tiers), "")


def too_long(question: Question, field: Field) -> Invalid:
    needs = question.size.least
    fits = max(room_for_question(p.window, question.max_tokens or p.answer_tokens) for p in field.plans)
    message = (
        f"The message needs about {needs:,} tokens, and {fits:,} fit the largest open model. "
        "Shorten it, or ask for a higher tier."
    )
    return Invalid("CONTEXT_TOO_LONG", message, needs_tokens=str(needs), fits_tokens=str(fits))


def unavailable(field: Field, seen: Sequence[Candidate]) -> Unavailable:
    """What came closest is told: what is closed at this moment alone, else what nobody asked to be closed."""
    near = in_order(seen) or [c for c in field.closed if c.filter not in ("tier", "hint")] or field.closed
    reasons = " ".join(f"{c.provider}/{c.model}: {c.closed}" for c in near[:MOST_REASONS])
    tier = field.shape.tier
    asked = "No model is open." if tier == AUTO else f"No model of the {tier} tier or below is open."
    return Unavailable("MODEL_UNAVAILABLE", f"{asked} {reasons}".rstrip(), retry_after_s=5)


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
        offer, offer.name, offer.provider.name, offer.model, offer.tier, offer.window, offer.max_tokens,
        offer.latency_ms, offer.quality, price.price_in, price.price_out, price.dearest_in,
        price.above.tokens if price.above else NEVER,
        Candidate(provider=offer.provider.name, model=offer.model, tier=offer.tier, window_tokens=offer.window),
    )  # fmt: skip


def weights_in(decision: Decision) -> Weights:
    w = decision.weights
    return Weights(w.per_usd, w.per_s, w.sharpness, w.most_explored)


def copied(decision: Decision) -> Decision:
    again = Decision()
    again.CopyFrom(decision)
    return again
