"""Why nothing is open, told from the offers that came closest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.common.errors import Exhausted, Invalid, Refusal, Unavailable
from services.router.decide.examine import Rated, examine, most_of, short
from services.router.decide.field import Field, in_order, is_of_kind, plan_of, unfit
from services.router.decide.question import AUTO, Moment, Question, Shape
from services.router.offers import TIERS
from services.router.window import room_for_question
from soma.common.v1.model_pb2 import Candidate
from soma.router.v1.routing_pb2 import Hints

MOST_REASONS = 3


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
    tiers = {Rated(*rating).tier for rating in open_}
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
