"""What a policy closes, sets right and clamps, by the hundred: no clock, no network, no database."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.errors import Invalid
from services.common.learning.choose import SHARPNESS, weights_of
from services.router.decide import AUTO, Shape, prepare
from services.router.live import Live
from services.router.offers import Figures, Offer, Price, Provider
from services.router.policies.checks import check_policy
from services.router.policies.rows import CORRUPT_NOTE, Corrupt, Unlearned, policy_of, rules_of, shown, version_of
from services.router.policies.rules import BUILT_IN, NOWHERE, Rules
from services.router.providers.view import Seen, is_enabled, providers_of, switched
from soma.router.v1.policy_pb2 import ModelPrice, ModelRule, Policy
from soma.router.v1.routing_pb2 import Hints

PRICE = Price(100_000, 400_000)


def offer(
    name: str, tier: str = "standard", *, price: Price | None = PRICE, closed: str = "", where: str = ""
) -> Offer:
    provider, _, model = name.partition("/")
    places = frozenset(where.split())
    return Offer(
        Provider(provider, "openai", jurisdictions=places), model, tier, price, 8000, 1000, 500, closed=closed,
        closed_by="mode" if closed else "",
    )  # fmt: skip


ALL = (
    offer("acme/best", "premium"),
    offer("acme/usual"),
    offer("globex/usual", where="eu"),
    offer("globex/small", "slm"),
)


def open_names(policy: Policy) -> set[str]:
    return {o.name for o in Rules(policy).offers(ALL) if not o.closed}


def test_the_built_in_policy_closes_nothing_and_explores_nothing() -> None:
    assert open_names(BUILT_IN.policy) == {o.name for o in ALL}
    assert BUILT_IN.weights == weights_of(0.5, SHARPNESS, 0.0)
    assert BUILT_IN.clamp(Hints(max_cost_microusd=5)) == Hints(max_cost_microusd=5)


def test_exploration_is_off_until_something_is_learned_or_the_policy_says_how_much() -> None:
    assert Rules(Policy(), b"x").weights.most_explored == 0.05
    assert Rules(Policy()).weights.most_explored == 0


def test_a_policy_explores_as_much_as_it_says_whether_something_is_learned_or_not() -> None:
    for learned in (None, b"x"):
        assert Rules(Policy(most_explored=0), learned).weights.most_explored == 0
        assert Rules(Policy(most_explored=0.3), learned).weights.most_explored == 0.3


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (Policy(denied_models=["acme/*"]), {"globex/usual", "globex/small"}),
        (Policy(denied_models=["acme/best"]), {"acme/usual", "globex/usual", "globex/small"}),
        (Policy(allowed_models=["acme/*"]), {"acme/best", "acme/usual"}),
        (Policy(allowed_models=["acme/*"], denied_models=["acme/best"]), {"acme/usual"}),
        (Policy(allowed_models=["acme/best"], denied_models=["acme/*"]), set()),
        (Policy(allowed_models=["acm/*", "globex/sm"]), set()),
        (Policy(highest_tier="slm"), {"globex/small"}),
        (Policy(highest_tier="standard"), {"acme/usual", "globex/usual", "globex/small"}),
        (Policy(models=[ModelRule(model="acme/*", closed=True)]), {"globex/usual", "globex/small"}),
        (Policy(models=[ModelRule(model="acme/best", tier="slm")], highest_tier="slm"), {"acme/best", "globex/small"}),
    ],
)
def test_what_the_policy_closes_stays_closed_and_all_else_open(policy: Policy, left: set[str]) -> None:
    assert open_names(policy) == left
    for one in Rules(policy).offers(ALL):
        assert (one.closed_by == "policy") == (one.name not in left)
        assert bool(one.closed) == (one.name not in left)


def test_what_the_mode_closed_the_policy_does_not_open_and_its_sentence_stays() -> None:
    shut = offer("acme/best", closed="This mode calls no model beyond this machine.")
    [seen] = Rules(Policy(denied_models=["acme/*"])).offers((shut,))
    assert (seen.closed, seen.closed_by) == (shut.closed, "mode")


def test_a_models_own_rule_counts_before_its_providers() -> None:
    price = ModelPrice(input=1, output=2)
    rules = Rules(
        Policy(
            models=[
                ModelRule(model="acme/best", quality=0.9),
                ModelRule(model="acme/*", quality=0.1, tier="slm", price=price),
            ]
        )
    )
    best, usual = rules.adapt(ALL[0]), rules.adapt(ALL[1])
    assert (best.quality, best.tier, best.price) == (0.9, "slm", Price(1, 2))
    assert (usual.quality, usual.tier) == (0.1, "slm")


def test_the_ceiling_is_for_what_has_no_price_alone() -> None:
    rules = Rules(Policy(unknown_price=ModelPrice(input=7, output=9)))
    assert rules.adapt(offer("acme/new", price=None)).price == Price(7, 9)
    assert rules.adapt(ALL[0]).price == PRICE
    assert BUILT_IN.adapt(offer("acme/new", price=None)).price is None


def test_the_same_offers_are_worked_out_once_and_others_anew() -> None:
    rules = Rules(Policy(denied_models=["acme/*"]))
    again = (*ALL,)
    assert rules.offers(again) is rules.offers(again)
    assert rules.offers((ALL[2],)) == (ALL[2],)


def test_no_hint_widens_what_the_policy_allows() -> None:
    chance = random.Random(7)
    places = ["eu", "us", "here", "ch"]
    for _ in range(500):
        policy = Policy(
            max_cost_microusd=chance.choice([0, 10, 500]), max_latency_ms=chance.choice([0, 20, 900]),
            min_quality=chance.choice([0, 0.3, 0.8]), jurisdictions=chance.sample(places, chance.randrange(4)),
        )  # fmt: skip
        hints = Hints(
            max_cost_microusd=chance.choice([0, 5, 50, 5000]), max_latency_ms=chance.choice([0, 5, 50, 5000]),
            min_quality=chance.choice([0, 0.1, 0.5, 0.9]), jurisdictions=chance.sample(places, chance.randrange(4)),
            models=["a"], sensitivity="secret",
        )  # fmt: skip
        clamped = Rules(policy).clamp(hints)
        for bound in ("max_cost_microusd", "max_latency_ms"):
            given = [b for b in (getattr(policy, bound), getattr(hints, bound)) if b]
            assert getattr(clamped, bound) == min(given, default=0)
        assert clamped.min_quality == max(policy.min_quality, hints.min_quality)
        for both in (policy.jurisdictions, hints.jurisdictions):
            assert not both or set(clamped.jurisdictions) <= {*both, NOWHERE}
        assert bool(clamped.jurisdictions) == bool(policy.jurisdictions or hints.jurisdictions)
        assert (list(clamped.models), clamped.sensitivity) == (["a"], "secret")


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (Policy(allowed_models=["nobody/*"]), "allowed_models"),
        (Policy(denied_models=["acme/*", "globex/*"]), "denied_models"),
        (Policy(models=[ModelRule(model=f"{p}/*", closed=True) for p in ("acme", "globex")]), "models"),
        (Policy(highest_tier="slm", allowed_models=["acme/*"]), "allowed_models"),
        (Policy(jurisdictions=["us"]), "jurisdictions"),
        (Policy(allowed_models=["*/best"]), "allowed_models"),
        (Policy(denied_models=["acme/b*"]), "denied_models"),
        (Policy(denied_models=["acme"]), "denied_models"),
        (Policy(denied_models=["acme/best", "acme/best"]), "denied_models"),
        (Policy(models=[ModelRule(model="acme/best"), ModelRule(model="acme/best")]), "models"),
        (Policy(unknown_price=ModelPrice()), "unknown_price"),
        (Policy(unknown_price=ModelPrice(input=1)), "unknown_price"),
        (Policy(learned="0g" * 32), "learned"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_the_field_is_named(policy: Policy, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_policy(policy, ALL)
    assert (refusal.value.reason, refusal.value.metadata["field"]) == ("POLICY_INVALID", f"policy.{field}")


def test_a_policy_may_speak_of_models_that_are_not_there_yet() -> None:
    check_policy(Policy(allowed_models=["acme/*", "later/*"], denied_models=["later/x:y/z"], jurisdictions=[]), ALL)
    check_policy(Policy(jurisdictions=["eu"]), ALL)


def row(policy: Policy, learned: bytes | None = None, **columns: Any) -> dict[str, Any]:
    body = policy.SerializeToString(deterministic=True)
    return {
        "version": 3, "body": body, "digest": hashlib.sha256(body).digest(), "author": "admin@acme", "note": "why",
        "learned": hashlib.sha256(learned).digest() if learned else None, "learned_body": learned,
        "create_time": datetime(2026, 1, 1, tzinfo=UTC),
    } | columns  # fmt: skip


def unreadable(_learned: bytes) -> None:
    raise ValueError("not a posterior")


def test_a_row_is_read_back_with_what_its_columns_say() -> None:
    rules = rules_of(row(Policy(dial=0.9), b"weights"), len)
    assert (rules.name, rules.learned, rules.policy.author, rules.policy.note) == (
        "policies/3",
        b"weights",
        "admin@acme",
        "why",
    )
    assert rules.policy.learned == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    "broken",
    [
        row(Policy(dial=0.9), body=Policy(dial=0.1).SerializeToString()),
        row(Policy(), body=b"\xff\xff", digest=hashlib.sha256(b"\xff\xff").digest()),
        row(Policy(dial=7)),
        row(Policy(), b"weights", learned_body=None),
        row(Policy(), b"weights", learned_body=b"weightz"),
    ],
)
def test_a_corrupt_row_is_refused_and_still_shown_to_people(broken: dict[str, Any]) -> None:
    with pytest.raises(Corrupt):
        rules_of(broken, len)
    assert shown(broken).name == "policies/3"


def test_a_row_that_says_what_nobody_may_say_is_corrupt_to_all_who_read_it() -> None:
    gold = row(Policy(highest_tier="gold"))
    with pytest.raises(Corrupt):
        policy_of(gold)
    assert (shown(gold).highest_tier, shown(gold).note) == ("", CORRUPT_NOTE)


def test_a_row_of_which_the_learned_part_alone_is_corrupt_forbids_what_it_forbade() -> None:
    strict = Policy(denied_models=["acme/*"], jurisdictions=["eu"], highest_tier="slm")
    for broken, check in (
        (row(strict, b"weights"), unreadable),
        (row(strict, b"weights", learned_body=None), len),
        (row(strict, b"weights", learned_body=b"weightz"), len),
    ):
        with pytest.raises(Unlearned) as caught:
            rules_of(broken, check)
        rules = caught.value.rules
        assert (rules.name, rules.learned, rules.weights.most_explored) == ("policies/3", None, 0)
        assert (set(rules.tiers), set(rules.jurisdictions)) == ({"slm"}, {"eu"})
        assert rules.policy.denied_models == ["acme/*"]
    with pytest.raises(Corrupt) as whole:
        rules_of(row(Policy(), b"weights", body=b"x"), len)
    assert not isinstance(whole.value, Unlearned)


@pytest.mark.parametrize(
    "name",
    [
        "policies/",
        "policies/-1",
        "policies/01",
        "policies/1/2",
        "x/1",
        "policies/²",
        "policies/1e3",
        "policies/" + "9" * 30,
    ],
)
def test_what_names_no_version_is_none(name: str) -> None:
    assert version_of(name) is None


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(allowed_models=["globex/*"]),
        Policy(allowed_models=["acme/best"], denied_models=["acme/usual", "globex/*"]),
        Policy(denied_models=["acme/*"]),
        Policy(models=[ModelRule(model="acme/*", closed=True, tier="slm")]),
    ],
)
def test_a_provider_is_turned_off_and_on_and_nothing_else_changes(policy: Policy) -> None:
    for enabled in (True, False):
        made = switched(policy, "acme", enabled=enabled)
        assert is_enabled(made, "acme") == enabled
        assert is_enabled(made, "globex") == is_enabled(policy, "globex")
        assert switched(made, "acme", enabled=enabled) == made
        assert [rule.tier for rule in made.models] == [rule.tier for rule in policy.models]
    assert switched(policy, "acme", enabled=is_enabled(policy, "acme")) == policy


def test_a_provider_shows_its_models_as_the_tenant_finds_them() -> None:
    rules = Rules(
        Policy(denied_models=["acme/best"], jurisdictions=["eu"], models=[ModelRule(model="globex/usual", quality=0.9)])
    )
    seen = Seen(lambda o: Figures(latency_ms=77, closed="It rests." if o.tier == "slm" else ""), Live().standing)
    acme, globex = providers_of(ALL, rules, seen)
    assert (acme.name, acme.enabled, globex.name, globex.enabled) == ("providers/acme", True, "providers/globex", True)
    assert [model.closed for model in acme.models] == [
        "The policy denies it.",
        "It reads texts in an unknown place; allowed is eu.",
    ]
    assert next((m.closed, m.quality, m.latency_ms) for m in globex.models) == ("", 0.9, 77)


def test_a_model_is_shown_open_exactly_where_a_decision_leaves_it_open() -> None:
    """By tier, place, price and rules, by the hundred. What moves from moment to moment is looked at by neither."""
    chance, live = random.Random(11), Live()
    places = ("eu", "us", "here")
    seen = Seen(lambda _: Figures(), live.standing)
    for _ in range(500):
        offers = tuple(
            offer(
                f"p{n}/m", chance.choice(["premium", "standard", "slm"]), price=chance.choice([PRICE, PRICE, None]),
                where=" ".join(chance.sample(places, chance.randrange(4))), closed=chance.choice(["", "", "No key."]),
            )
            for n in range(6)
        )  # fmt: skip
        policy = Policy(
            jurisdictions=chance.sample(places, chance.randrange(3)), denied_models=chance.sample(["p0/*", "p1/m"], 1),
            highest_tier=chance.choice(["", "standard", "slm"]),
        )  # fmt: skip
        rules = Rules(policy)
        field = prepare(Shape(AUTO), rules.offers(offers), rules)
        shown_open = {
            f"{one.name.removeprefix('providers/')}/{model.model}"
            for one in providers_of(offers, rules, seen)
            for model in one.models
            if not model.closed
        }
        assert shown_open == {plan.name for plan in field.plans}


def test_a_policy_that_leaves_only_this_machine_can_be_made_and_one_that_no_provider_keeps_to_cannot() -> None:
    here, both = offer("local/small", where="here"), offer("acme/best", where="eu us")
    check_policy(Policy(jurisdictions=["eu"]), (here,))
    with pytest.raises(Invalid) as refusal:
        check_policy(Policy(jurisdictions=["eu"]), (both,))
    assert refusal.value.metadata["field"] == "policy.jurisdictions"
