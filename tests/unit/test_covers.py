"""What a key is bound to: what is offered can be used, what is not covered cannot, and a name that means nothing is
none."""

from __future__ import annotations

from itertools import combinations

import pytest

from services.common.errors import NotFound
from services.router.covers import CHOSEN_HERE, EMBEDS_HERE, covers, is_name, makes_vectors
from services.router.decide import AUTO, Field, Shape, prepare
from services.router.front.names import Menu
from services.router.offers import Offer, Price, Provider
from services.router.policies.rules import BUILT_IN
from soma.router.v1.routing_pb2 import Hints

ACME, HERE = Provider("acme", "openai"), Provider("minilm", "openai", jurisdictions=frozenset({"here"}))
FREE, VECTORS = Price(0, 0), frozenset({"embeddings"})
MINILM = Offer(HERE, "all-MiniLM-L6-v2", "slm", FREE, 1000, 100, 100, capabilities=VECTORS)
OFFERS = (
    *(Offer(ACME, f"of-{tier}", tier, FREE, 1000, 100, 100) for tier in ("premium", "standard", "slm")),
    Offer(ACME, "vectors", "slm", FREE, 1000, 100, 100, capabilities=VECTORS),
    MINILM,
)
NAMES = (*CHOSEN_HERE, *EMBEDS_HERE, *(offer.name for offer in OFFERS), *(offer.model for offer in OFFERS[:4]))
BOUND = [frozenset(names) for n in range(3) for names in combinations(NAMES, n)]


def asked_by(bound: frozenset[str], name: str) -> Field:
    """What is open to a key when it asks for the name, as the front door asks: for an answer, else for vectors."""
    menu = Menu(OFFERS, bound)
    try:
        tier, models = menu.chat(name)
        needs = frozenset[str]()
    except NotFound:
        tier, models, needs = AUTO, [menu.embedding(name)], VECTORS
    return prepare(Shape(tier, needs, Hints(models=models).SerializeToString(), bound), OFFERS, BUILT_IN)


def test_whatever_a_key_is_offered_it_can_use_and_nothing_else_is_open() -> None:
    for bound in BOUND:
        for name, _ in Menu(OFFERS, bound).names():
            plans = asked_by(bound, name).plans
            assert plans, (bound, name)
            assert all(covers(bound, plan.offer) for plan in plans), (bound, name)


def test_a_key_that_is_bound_to_a_name_is_offered_something() -> None:
    for name in NAMES:
        assert Menu(OFFERS, frozenset({name})).names(), name


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("soma/auto", {"of-premium", "of-standard", "of-slm"}), ("soma/standard", {"of-standard"}),
        ("soma/embedding", {MINILM.model}), (MINILM.model, {MINILM.model}), ("local/all-MiniLM-L6-v2", {MINILM.model}),
        ("acme/of-slm", {"of-slm"}), ("of-slm", {"of-slm"}), ("acme/vectors", {"vectors"}), ("other/of-slm", set()),
    ],
)  # fmt: skip
def test_a_name_covers_this(name: str, models: set[str]) -> None:
    assert {offer.model for offer in OFFERS if covers({name}, offer)} == models


def test_no_name_covers_all() -> None:
    assert all(covers((), offer) for offer in OFFERS)


def test_vectors_are_offered_only_where_their_model_is_open() -> None:
    shut = Offer(HERE, MINILM.model, "slm", FREE, 1000, 100, 100, capabilities=VECTORS, closed="No server runs here.")
    for offers in ((shut,), (), OFFERS[:3]):
        assert not {name for name, _ in Menu(offers).names()} & set(EMBEDS_HERE)
    assert {"soma/embedding", MINILM.model} <= {name for name, _ in Menu(OFFERS).names()}


def test_what_a_key_may_be_bound_to_is_what_a_model_is_called() -> None:
    models = [offer.key for offer in OFFERS]
    assert all(is_name(name, models) for name in NAMES)
    for name in ("", "gpt-x", "soma/gold", "soma/", "acme", "acme/*", "other/of-slm", "SOMA/AUTO", "of-slm "):
        assert not is_name(name, models), name
    assert not any(makes_vectors(offer) for offer in OFFERS[:3])
