"""Which model answers, by the hundred: no clock, no network, no database."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from services.common.errors import Exhausted, Invalid, NotFound, Unavailable
from services.common.learning.choose import score_of, weights_of
from services.router.admit import context_hash
from services.router.asked import Asked
from services.router.budgets.room import Left, Room
from services.router.decide import Moment, Question, Shape, decide, next_after, prepare, replay
from services.router.offers import TIERS, Figures, Offer, Price, Provider
from services.router.policies.rules import BUILT_IN, Rules
from services.router.window import Size
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.routing_pb2 import Hints

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
    where: frozenset[str] = frozenset(),
    can: frozenset[str] = frozenset(),
    quality: float = 0.7,
) -> Offer:
    owner = Provider(provider, "openai", jurisdictions=where)
    return Offer(owner, model, tier, price, window, 1000, latency_ms, closed=closed, capabilities=can, quality=quality)


def ask(
    offers: Sequence[Offer],
    tier: str = "standard",
    *,
    tokens: int = 100,
    max_tokens: int = 0,
    live: Mapping[str, Figures] | None = None,
    hints: Hints | None = None,
    needs: frozenset[str] = frozenset(),
    models: frozenset[str] = frozenset(),
    rules: Rules = BUILT_IN,
    room: Room = (),
    draw: float = 0.0,
    qualities: Mapping[str, float] | None = None,
) -> Decision:
    shape = Shape(tier, needs, (hints or Hints()).SerializeToString(), models)
    question = Question(Size((tokens,), tokens), max_tokens)
    moment = Moment(
        lambda o: (live or {}).get(o.model, Figures()), qualities or {}, room, draw, prices="prices 1", mode="TEST"
    )
    return decide(question, prepare(shape, rules.offers(tuple(offers)), rules), moment, ID)


def closed(decision: Decision, model: str) -> str:
    return next(c.closed for c in decision.candidates if c.model == model)


ALL = [offer("best", "premium"), offer("usual", "standard"), offer("small", "slm")]


@pytest.mark.parametrize(("tier", "chosen"), [("premium", "best"), ("standard", "usual"), ("slm", "small")])
def test_the_requested_tier_is_tried_first(tier: str, chosen: str) -> None:
    decision = ask(ALL, tier)
    assert (decision.model, decision.requested_tier) == (chosen, tier)


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


def test_only_open_models_have_a_score_and_the_best_of_the_tier_answers() -> None:
    chance = random.Random(1)
    for _ in range(300):
        offers = [
            offer(
                f"m{n}",
                chance.choice(TIERS),
                price=Price(chance.choice([0, 1, 10**6]), chance.choice([0, 1, 10**9])),
                latency_ms=chance.choice([1, 300, 60_000]),
                closed=chance.choice(["", "", "shut"]),
                quality=chance.random(),
            )
            for n in range(8)
        ]
        try:
            decision = ask(offers, chance.choice([*TIERS, "auto"]), tokens=chance.choice([1, 5000]))
        except Unavailable:
            continue
        for c in decision.candidates:
            score = 0 if c.closed else score_of(c.quality, c.cost_microusd, c.latency_ms, weights_of(0.5))
            assert c.score == score
        rivals = [c for c in decision.candidates if not c.closed]
        if decision.requested_tier != "auto":
            rivals = [c for c in rivals if c.tier == decision.tier]
        assert rivals[0].score == max(c.score for c in rivals)


def test_the_cheaper_of_two_equally_fast_models_answers() -> None:
    assert ask([offer("dear", price=DEAR), offer("cheap")]).model == "cheap"


def test_the_faster_of_two_equally_dear_models_answers() -> None:
    assert ask([offer("slow", latency_ms=900), offer("fast", latency_ms=200)]).model == "fast"


def test_the_dial_says_what_a_better_answer_may_cost() -> None:
    offers = [offer("good", price=Price(10**7, 4 * 10**7), quality=0.9), offer("cheap", quality=0.8)]
    chosen = {dial: ask(offers, rules=Rules(Policy(name="policies/1", dial=dial))).model for dial in (0.0, 0.5, 1.0)}
    assert chosen == {0.0: "cheap", 0.5: "cheap", 1.0: "good"}


def test_what_was_learned_of_a_question_counts_for_more_than_the_catalogues_quality() -> None:
    assert ask([offer("a", quality=0.9), offer("b", quality=0.1)], qualities={"acme/b": 0.95}).model == "b"


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
    question = Question(Size((tokens - 1, 1), 1), max_tokens)
    field = prepare(Shape(), (offer("x"),), BUILT_IN)
    decision = decide(question, field, Moment(lambda _: Figures()), ID)
    assert decision.estimated_cost_microusd == cost == decision.candidates[0].cost_microusd


def test_a_decision_names_itself_its_window_and_its_prices() -> None:
    decision = ask(ALL)
    assert (decision.id, decision.window_tokens, decision.prices) == (str(ID), 128_000, "prices 1")


WHY = {
    "usual is the only open model of the standard tier.": [offer("usual")],
    "cheap has the best balance of quality, cost and wait among 2 open models of the standard tier.": [
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


def test_only_those_that_are_full_say_when_to_come_back() -> None:
    live = {"usual": Figures(busy=True, retry_after_s=9), "small": Figures(closed="It rests.", retry_after_s=0)}
    with pytest.raises(Exhausted) as refused:
        ask(ALL, live=live)
    assert refused.value.retry_after_s == 9


def test_a_hint_that_nothing_fits_is_named_and_not_what_is_closed_anyway() -> None:
    with pytest.raises(Unavailable, match=r"acme/x: It would cost about") as refused:
        ask([offer("x", price=DEAR), offer("shut", closed="There is no key.")], hints=Hints(max_cost_microusd=1))
    assert "no key" not in refused.value.message


def test_after_a_failure_the_next_candidate_is_chosen_and_the_failed_one_closed() -> None:
    offers = [
        offer("first"),
        offer("second", price=DEAR),
        offer("small", "slm"),
        offer("shut", closed="There is no key."),
    ]
    first = ask(offers)
    second = next_after(first, "acme fell silent.")
    assert second is not None
    assert (second.id, second.model, second.requested_tier) == (first.id, "second", "standard")
    assert closed(second, "first") == "acme fell silent."
    assert second.why == "second answers because first did not: acme fell silent."
    assert second.estimated_cost_microusd == second.candidates[0].cost_microusd
    third = next_after(second, "acme cannot be reached.")
    assert third is not None
    assert (third.model, third.tier) == ("small", "slm")
    assert third.why == (
        "small answers because first did not: acme fell silent. Nor did second: acme cannot be reached."
    )
    assert next_after(third, "acme broke.") is None
    assert first.model == "first", "an earlier decision is not changed"


NEEDS = {
    "capability": ({"needs": frozenset({"vision"})}, offer("x", can=frozenset({"tools"}))),
    "jurisdiction": ({"hints": Hints(jurisdictions=["eu"])}, offer("x", where=frozenset({"us"}))),
    "hint": ({"hints": Hints(max_latency_ms=400)}, offer("x", latency_ms=500)),
    "policy": ({"rules": Rules(Policy(name="policies/1", denied_models=["acme/x"]))}, offer("x")),
}
FIT = offer("fit", where=frozenset({"eu"}), can=frozenset({"vision", "tools"}), latency_ms=300)


@pytest.mark.parametrize("filter", NEEDS)
def test_each_need_closes_what_does_not_meet_it_and_names_the_filter(filter: str) -> None:
    asked, unfit = NEEDS[filter]
    decision = ask([unfit, FIT], **asked)  # type: ignore[arg-type]
    assert decision.model == "fit"
    assert [c.filter for c in decision.candidates] == ["", filter]


@pytest.mark.parametrize(
    ("hints", "closed_one"),
    [
        (Hints(max_cost_microusd=20), "dear"),
        (Hints(min_quality=0.5), "poor"),
        (Hints(models=["cheap", "acme/poor"]), "dear"),
        (Hints(sensitivity="secret"), "dear"),
    ],
)
def test_a_hint_closes_what_it_does_not_want(hints: Hints, closed_one: str) -> None:
    here = frozenset({"here"})
    offers = [
        offer("dear", price=DEAR),
        offer("poor", quality=0.3, where=here),
        offer("cheap", price=Price(1, 1), where=here),
    ]
    assert closed(ask(offers, max_tokens=10, hints=hints), closed_one)
    assert ask(offers, max_tokens=10, hints=hints).model == "cheap"


def test_a_policy_is_never_widened_by_a_hint() -> None:
    rules = Rules(Policy(name="policies/1", jurisdictions=["eu"], max_cost_microusd=20))
    wide = Hints(jurisdictions=["us", "eu"], max_cost_microusd=10**9)
    offers = [offer("us", where=frozenset({"us"})), offer("dear", price=DEAR, where=frozenset({"eu"}))]
    with pytest.raises(Unavailable):
        ask(offers, hints=wide, rules=rules)


def test_models_that_nobody_has_are_unknown() -> None:
    with pytest.raises(NotFound) as refused:
        ask(ALL, "auto", hints=Hints(models=["gpt-99"]))
    assert refused.value.reason == "MODEL_UNKNOWN"


def test_a_key_for_some_models_opens_no_other() -> None:
    assert ask(ALL, "auto", models=frozenset({"small"})).model == "small"
    assert ask(ALL, "premium", models=frozenset({"soma/standard"})).model == "usual"


def test_a_key_for_whatever_the_router_chooses_may_use_any_model_by_its_name_too() -> None:
    assert ask(ALL, "auto", models=frozenset({"soma/auto"})).model == ask(ALL, "auto").model
    assert ask(ALL, "auto", models=frozenset({"soma/auto"}), hints=Hints(models=["small"])).model == "small"


def left(microusd: int, tier: str = "") -> Left:
    return Left("budgets/1", "the budget of acme for this day", tier, microusd, None, None, None)


def test_a_spent_budget_for_premium_models_leaves_the_tiers_below_open() -> None:
    decision = ask(ALL, "premium", room=[left(10, "premium")])
    assert decision.model == "usual"
    assert next(c for c in decision.candidates if c.model == "best").filter == "budget"
    assert "It could cost $0.00041, and $0.00001 is left of the budget of acme" in closed(decision, "best")


def test_the_most_that_a_call_can_cost_is_what_is_held() -> None:
    decision = ask([offer("x")], tokens=1000, max_tokens=500)
    assert decision.held_microusd == 1000 // 10 + 500 * 4 // 10


def test_a_spent_budget_says_which_what_is_left_and_what_cheaper_tier_is_open() -> None:
    offers = [offer("best", "premium", price=DEAR), offer("small", "slm", price=Price(0, 0))]
    with pytest.raises(Exhausted, match='The tier "slm" is open') as refused:
        ask(offers, "auto", hints=Hints(models=["best"]), room=[left(7)])
    assert refused.value.reason == "BUDGET_SPENT"
    assert refused.value.metadata == {"budget": "budgets/1", "cheaper_tier": "slm", "left_microusd": "7"}


def test_no_dearer_tier_is_offered_as_a_cheaper_one() -> None:
    offers = [offer("best", "premium", price=Price(0, 0)), offer("small", "slm")]
    with pytest.raises(Exhausted) as refused:
        ask(offers, "slm", room=[left(7, "slm")])
    assert refused.value.metadata["cheaper_tier"] == ""
    assert "Ask an admin" in refused.value.message


EXPLORING = Rules(Policy(name="policies/1", most_explored=0.2), learned=b"something")


def test_what_is_tried_out_is_drawn_with_the_probability_that_is_logged() -> None:
    offers = [offer("a", quality=0.9), offer("b", quality=0.8), offer("c", quality=0.2)]
    drawn = [ask(offers, rules=EXPLORING, draw=n / 1000) for n in range(1000)]
    expected = {c.model: c.probability for c in drawn[0].candidates}
    assert sum(expected.values()) == pytest.approx(1)
    for model, probability in expected.items():
        chosen = [d for d in drawn if d.model == model]
        assert len(chosen) / 1000 == pytest.approx(probability, abs=0.002)
        assert all(d.propensity == probability for d in chosen)
    assert 0.01 < 1 - expected["a"] <= 0.2 + 1e-6
    assert expected["b"] > expected["c"]


def test_a_recorded_decision_is_made_again_bit_for_bit() -> None:
    chance = random.Random(2)
    for _ in range(200):
        offers = [
            offer(f"m{n}", chance.choice(TIERS), price=Price(chance.randrange(10**7), 10**6), quality=chance.random())
            for n in range(6)
        ]
        tier = chance.choice([*TIERS, "auto"])
        try:
            decision = ask(offers, tier, rules=EXPLORING, draw=chance.random(), room=[left(2000, "premium")])
        except (Unavailable, Exhausted):
            continue
        recorded = decision.SerializeToString(deterministic=True)
        assert replay(Decision.FromString(recorded)).SerializeToString(deterministic=True) == recorded


def test_a_decision_that_was_moved_is_made_again_bit_for_bit() -> None:
    chance = random.Random(3)
    offers = [offer(f"m{n}", TIERS[n % 3], quality=chance.random()) for n in range(6)]
    for tier in [*TIERS, "auto"] * 5:
        moved = next_after(ask(offers, tier, rules=EXPLORING, draw=chance.random()), "acme fell silent.")
        while moved is not None:
            recorded = moved.SerializeToString(deterministic=True)
            assert replay(Decision.FromString(recorded)).SerializeToString(deterministic=True) == recorded
            moved = next_after(moved, "acme cannot be reached.")


def test_a_changed_figure_makes_another_decision() -> None:
    decision = ask([offer("a", quality=0.9), offer("b", quality=0.8)])
    decision.candidates[0].quality = 0.1
    assert replay(decision).model == "b"


def hashed(tokens: int = 100, tier: str = "auto", text: str = "a", **fields: Any) -> str:
    """Of a question about two models, and of its decision."""
    offers = [offer("a"), offer("b", quality=0.6)]
    asked = Asked(Shape(tier), Size((tokens,), tokens), 0, text)
    decision = ask(offers, tier, tokens=tokens, **fields)
    return context_hash(asked, decision)


def test_two_equal_questions_have_the_same_context_whatever_chance_chose() -> None:
    assert hashed(rules=EXPLORING, draw=0.0) == hashed(rules=EXPLORING, draw=0.99)


@pytest.mark.parametrize("change", [{"tokens": 101}, {"tier": "standard"}, {"rules": BUILT_IN}])
def test_another_question_or_policy_is_another_context(change: dict[str, Any]) -> None:
    assert hashed(**({"rules": EXPLORING} | change)) != hashed(rules=EXPLORING)
