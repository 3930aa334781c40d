"""Which model answers, by the hundred: no clock, no network, no database."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Mapping, Sequence

import pytest

from services.common.errors import Exhausted, Invalid, Unavailable
from services.router.decide import Question, decide, next_after
from services.router.offers import TIERS, Figures, Offer, Price, Provider
from services.router.window import Size
from soma.common.v1.model_pb2 import Decision

ID = uuid.UUID(int=7)
CHEAP, DEAR = Price(100_000, 400_000), Price(1_000_000, 4_000_000)


def offer(
    model: str,
    tier: str = "standard",
    *,
    price: Price | None = CHEAP,
    latency_ms: int = 500,
    window: int = 128_000,
    closed: str = "",
    provider: str = "acme",
) -> Offer:
    return Offer(Provider(provider, "openai"), model, tier, price, window, 1000, latency_ms, closed=closed)


def ask(
    offers: Sequence[Offer],
    tier: str = "",
    *,
    tokens: int = 100,
    max_tokens: int = 0,
    live: Mapping[str, Figures] | None = None,
) -> Decision:
    question = Question(tier, Size((tokens,), tokens), max_tokens)
    return decide(question, offers, lambda o: (live or {}).get(o.model, Figures()), "prices 1", ID)


def closed(decision: Decision, model: str) -> str:
    return next(c.closed for c in decision.candidates if c.model == model)


ALL = [offer("best", "premium"), offer("usual", "standard"), offer("small", "slm")]


@pytest.mark.parametrize(
    ("tier", "chosen"), [("", "usual"), ("premium", "best"), ("standard", "usual"), ("slm", "small")]
)
def test_the_requested_tier_is_tried_first(tier: str, chosen: str) -> None:
    decision = ask(ALL, tier)
    assert (decision.model, decision.requested_tier) == (chosen, tier or "standard")


@pytest.mark.parametrize("requested", TIERS)
@pytest.mark.parametrize("open_tiers", [t for n in range(4) for t in itertools.combinations(TIERS, n)])
def test_the_best_open_tier_at_or_below_the_requested_one_answers(requested: str, open_tiers: tuple[str, ...]) -> None:
    offers = [offer(tier, tier, closed="" if tier in open_tiers else "There is no key.") for tier in TIERS]
    may = [tier for tier in TIERS[TIERS.index(requested) :] if tier in open_tiers]
    if may:
        assert ask(offers, requested).tier == may[0]
    else:
        with pytest.raises(Unavailable) as refused:
            ask(offers, requested)
        assert refused.value.reason == "MODEL_UNAVAILABLE"


def test_a_tier_above_the_requested_one_is_not_tried_however_good() -> None:
    decision = ask([offer("free", "premium", price=Price(0, 0), latency_ms=1), offer("usual")])
    assert decision.model == "usual"
    assert "above the one that was asked for" in closed(decision, "free")


FILTERS = {
    "There is no key for acme.": (offer("x", closed="There is no key for acme."), Figures()),
    "This mode calls no model beyond this machine.": (
        offer("x", closed="This mode calls no model beyond this machine."),
        Figures(),
    ),
    "Its price is unknown.": (offer("x", price=None), Figures()),
    "It failed 3 times in a row": (offer("x"), Figures(closed="It failed 3 times in a row and rests.")),
    "The message needs about 100 tokens; 75 fit its window.": (offer("x", window=100), Figures()),
    "Its queue is full.": (offer("x"), Figures(busy=True)),
    "It is of the premium tier": (offer("x", "premium"), Figures()),
}


@pytest.mark.parametrize("sentence", FILTERS)
def test_each_filter_closes_with_its_sentence(sentence: str) -> None:
    closed_one, figures = FILTERS[sentence]
    decision = ask([closed_one, offer("open")], live={"x": figures})
    assert decision.model == "open"
    assert closed(decision, "x").startswith(sentence)


def test_every_offer_is_among_the_candidates_open_ones_first_in_the_order_of_trying() -> None:
    offers = [
        offer("small", "slm"),
        offer("shut", closed="There is no key."),
        offer("dear", price=DEAR),
        offer("cheap"),
        offer("best", "premium"),
    ]
    decision = ask(offers)
    assert [c.model for c in decision.candidates] == ["cheap", "dear", "small", "best", "shut"]
    assert [bool(c.closed) for c in decision.candidates] == [False, False, False, True, True]


def test_scores_lie_between_zero_and_one_and_only_open_models_have_one() -> None:
    chance = random.Random(1)
    for _ in range(300):
        offers = [
            offer(
                f"m{n}",
                chance.choice(TIERS),
                price=Price(chance.choice([0, 1, 10**6]), chance.choice([0, 1, 10**9])),
                latency_ms=chance.choice([1, 300, 60_000]),
                closed=chance.choice(["", "", "shut"]),
            )
            for n in range(8)
        ]
        try:
            decision = ask(offers, chance.choice(TIERS), tokens=chance.choice([1, 5000]))
        except Unavailable:
            continue
        for candidate in decision.candidates:
            assert (0 <= candidate.score <= 1) if not candidate.closed else candidate.score == 0
        tier = [c for c in decision.candidates if not c.closed and c.tier == decision.tier]
        assert tier[0].score == max(c.score for c in tier)


def test_the_cheaper_of_two_equally_fast_models_answers() -> None:
    assert ask([offer("dear", price=DEAR), offer("cheap")]).model == "cheap"


def test_the_faster_of_two_equally_dear_models_answers() -> None:
    assert ask([offer("slow", latency_ms=900), offer("fast", latency_ms=200)]).model == "fast"


def test_a_much_cheaper_model_goes_before_a_little_faster_one_and_the_other_way_round() -> None:
    assert ask([offer("dear", price=DEAR, latency_ms=490), offer("cheap", latency_ms=500)]).model == "cheap"
    assert ask([offer("slow", price=Price(99_000, 396_000), latency_ms=5000), offer("fast")]).model == "fast"


def test_a_measured_wait_counts_for_more_than_the_catalogues() -> None:
    offers = [offer("was fast", latency_ms=100), offer("is fast", latency_ms=900)]
    live = {"was fast": Figures(latency_ms=2000), "is fast": Figures(latency_ms=100)}
    assert ask(offers, live=live).model == "is fast"


def test_equal_models_are_chosen_by_name_whatever_their_order() -> None:
    offers = [offer(name, provider=provider) for name in "cab" for provider in ("zeta", "acme")]
    first = ask(offers)
    assert (first.provider, first.model) == ("acme", "a")
    for order in itertools.permutations(offers, len(offers)):
        assert ask(order) == first


def test_the_same_question_gives_the_same_decision() -> None:
    assert ask(ALL).SerializeToString(deterministic=True) == ask(ALL).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("tokens", "max_tokens", "cost"),
    [(1000, 0, 1000 // 10 + 300 * 4 // 10), (1000, 10, 104), (1, 1, 1), (200_000, 0, 127_000 // 10 + 120)],
)
def test_the_estimate_is_the_cut_question_and_an_answer_of_usual_length(
    tokens: int, max_tokens: int, cost: int
) -> None:
    question = Question("", Size((tokens - 1, 1), 1), max_tokens)
    decision = decide(question, [offer("x")], lambda _: Figures(), "p", ID)
    assert decision.estimated_cost_microusd == cost == decision.candidates[0].cost_microusd


def test_a_decision_names_itself_its_window_and_its_prices() -> None:
    decision = ask(ALL)
    assert (decision.id, decision.window_tokens, decision.prices) == (str(ID), 128_000, "prices 1")


WHY = {
    "usual is the only open model of the standard tier.": [offer("usual")],
    "cheap has the best balance of cost and wait among 2 open models of the standard tier.": [
        offer("cheap"),
        offer("dear", price=DEAR),
    ],
    "small answers because no model of the standard tier is open.": [offer("small", "slm"), offer("x", closed="Shut.")],
}


@pytest.mark.parametrize("sentence", WHY)
def test_why_is_one_sentence_for_a_person(sentence: str) -> None:
    assert ask(WHY[sentence]).why == sentence


def test_a_refusal_says_what_is_closed_and_why() -> None:
    with pytest.raises(
        Unavailable, match=r"No model of the standard tier or below is open. acme/x: There is no key."
    ) as r:
        ask([offer("x", closed="There is no key."), offer("best", "premium")])
    assert r.value.reason == "MODEL_UNAVAILABLE"
    assert "best" not in r.value.message


def test_an_empty_catalogue_refuses_with_a_sentence() -> None:
    with pytest.raises(Unavailable, match=r"No model of the slm tier or below is open\."):
        ask([], "slm")


def test_a_message_larger_than_every_open_window_is_too_long() -> None:
    offers = [offer("small", "slm", window=1000), offer("usual", window=4000), offer("best", "premium")]
    with pytest.raises(Invalid, match="needs about 5,000 tokens, and 3,000 fit the largest open model") as refused:
        ask(offers, tokens=5000)
    assert refused.value.reason == "CONTEXT_TOO_LONG"


def test_a_message_too_long_for_one_model_goes_to_one_that_takes_it() -> None:
    assert ask([offer("narrow", window=1000), offer("wide", price=DEAR)], tokens=5000).model == "wide"


def test_full_queues_say_when_to_come_back() -> None:
    live = {"usual": Figures(busy=True, retry_after_s=9), "small": Figures(busy=True, retry_after_s=4)}
    with pytest.raises(Exhausted) as refused:
        ask(ALL, live=live)
    assert (refused.value.reason, refused.value.retry_after_s) == ("MODEL_BUSY", 4)


def test_after_a_failure_the_next_candidate_is_chosen_and_the_failed_one_closed() -> None:
    offers = [
        offer("first"),
        offer("second", price=DEAR),
        offer("small", "slm"),
        offer("shut", closed="There is no key."),
    ]
    first = ask(offers)
    second = next_after(first, "acme fell silent.", offers)
    assert second is not None
    assert (second.id, second.model, second.requested_tier) == (first.id, "second", "standard")
    assert closed(second, "first") == "acme fell silent."
    assert second.why == "second answers because first did not: acme fell silent."
    assert second.estimated_cost_microusd == second.candidates[0].cost_microusd
    third = next_after(second, "acme cannot be reached.", offers)
    assert third is not None
    assert (third.model, third.tier) == ("small", "slm")
    assert next_after(third, "acme broke.", offers) is None
    assert first.model == "first", "an earlier decision is not changed"
