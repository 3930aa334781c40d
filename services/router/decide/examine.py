"""The offers as they stand at one moment for one question: open ones with their scores, and closed ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from services.router.budgets.room import Amount, Left, Room
from services.router.decide.field import Field
from services.router.decide.question import Moment, Question
from services.router.offers import MILLION, Figures, Offer, Price
from services.router.window import room_for_question
from soma.common.v1.model_pb2 import Candidate
from soma.router.v1.routing_pb2 import Hints

EXPECTED_OUTPUT_TOKENS = 300
ROUND_UP = MILLION - 1


Rating: TypeAlias = tuple[float, int, int, str, str, str, float, int, Candidate]
"""The fields of Rated. There are many for each decision, and a name costs as much as the sums."""


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


def examine(question: Question, field: Field, moment: Moment) -> tuple[list[Rating], list[Candidate]]:
    """The offers as they stand at this moment: open ones with their scores, and closed ones."""
    open_: list[Rating] = []
    shut: list[Candidate] = []
    asked, least, max_tokens = question.size.total, question.size.least, question.max_tokens
    qualities, figures_of, hints, room = moment.qualities, moment.figures_of, field.hints, moment.room
    is_bounded = bool(hints.max_cost_microusd or hints.max_latency_ms or hints.min_quality or room)
    per_usd, per_s = field.rules.weights.per_usd, field.rules.weights.per_s
    for plan in field.plans:
        (
            offer, name, provider, model, tier, window, quarter, answer, latency_ms, quality, price_in, price_out,
            dearest, rises_above, seen,
        ) = plan  # fmt: skip
        figures = figures_of(offer)
        answer = max_tokens or answer
        fits = window - (answer if answer < quarter else quarter)  # window.room_for_question, without a call
        total = asked if asked < fits else fits
        if total > rises_above and (long := price_at(offer, total)):
            price_in, price_out, dearest = long.price_in, long.price_out, long.dearest_in
        output = answer if answer < EXPECTED_OUTPUT_TOKENS else EXPECTED_OUTPUT_TOKENS
        cost = (total * price_in + output * price_out + ROUND_UP) // MILLION
        answer = answer if answer < window else window
        held = (total * dearest + answer * price_out + ROUND_UP) // MILLION
        if figures.latency_ms is not None:
            latency_ms = figures.latency_ms
        if qualities:
            quality = qualities.get(name, quality)
        if figures.closed or figures.busy or least > fits or is_bounded:
            now = Now(figures, fits, least, cost, latency_ms, quality, Amount(held, total + answer))
            filter, closed = closed_now(tier, now, hints, room)
            if filter:
                shut.append(
                    Candidate(
                        provider=provider, model=model, tier=tier, closed=closed, cost_microusd=cost, filter=filter,
                        latency_ms=latency_ms, quality=quality, held_microusd=held, window_tokens=window,
                    )
                )  # fmt: skip
                continue
        minus_score = -(quality - per_usd * cost / 1e6 - per_s * latency_ms / 1e3)  # score_of, to the last bit
        open_.append((minus_score, cost, latency_ms, provider, model, tier, quality, held, seen))
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
