"""What a decision sees of a question, on the shipped prior. The embedder is a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from services.common.learning.posterior import Outcome, Posterior
from services.common.learning.prior import shipped
from services.router.asked import Asked
from services.router.decide import Field, Shape, prepare
from services.router.eyes import Eyes
from services.router.offers import Offer, Price, Provider
from services.router.policies.rules import BUILT_IN, Rules
from services.router.window import Size
from soma.router.v1.policy_pb2 import Policy

PRIOR = shipped()
EMBEDDING = [0.0] * 383 + [1.0]


@dataclass
class Table:
    """Vectors by text; None for what takes too long."""

    vectors: dict[str, Sequence[float]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def vector(self, text: str) -> Sequence[float] | None:
        self.asked.append(text)
        return self.vectors.get(text)


def offer(model: str, quality: float = 0.7) -> Offer:
    return Offer(Provider("acme", "openai"), model, "standard", Price(1, 1), 8000, 500, 100, quality=quality)


def field_of(*offers: Offer, rules: Rules = BUILT_IN) -> Field:
    return prepare(Shape("auto"), offers, rules)


def asked(text: str) -> Asked:
    return Asked(Shape("auto"), Size((10,), 10), 0, text)


async def test_where_there_is_no_choice_nobody_looks() -> None:
    table = Table()
    seen = await Eyes(PRIOR, table).see(asked("Hello"), field_of(offer("only")))
    assert (seen.features, seen.qualities, table.asked) == ((), {}, [])


async def test_before_anything_is_learned_the_better_model_of_the_catalogue_is_expected_to_be_better() -> None:
    field = field_of(offer("weak", 0.4), offer("strong", 0.85))
    seen = await Eyes(PRIOR, Table({"Hello": EMBEDDING})).see(asked("Hello"), field)
    assert seen.qualities["acme/weak"] < seen.qualities["acme/strong"]


async def test_what_a_tenants_outcomes_taught_changes_what_is_expected() -> None:
    features = PRIOR.features.of("Hello")
    taught = Posterior(PRIOR, {}).learned([Outcome(features, "acme/weak", 1.0, 0.4) for _ in range(200)])
    rules = Rules(Policy(name="policies/1"), learned=taught.to_bytes())
    seen = await Eyes(PRIOR, Table()).see(
        asked("Hello"), field_of(offer("weak", 0.4), offer("other", 0.7), rules=rules)
    )
    assert seen.qualities["acme/weak"] > 0.9


async def test_without_an_embedding_in_time_the_text_alone_is_looked_at() -> None:
    seen = await Eyes(PRIOR, Table()).see(asked("def f(x): return x"), field_of(offer("a"), offer("b")))
    assert len(seen.features) == PRIOR.features.size


async def test_another_policy_is_another_view() -> None:
    eyes, offers = Eyes(PRIOR, Table()), (offer("a"), offer("b"))
    features = PRIOR.features.of("Hello")
    taught = Posterior(PRIOR, {}).learned([Outcome(features, "acme/a", 0.0, 0.7) for _ in range(200)])
    before = await eyes.see(asked("Hello"), field_of(*offers))
    after = await eyes.see(asked("Hello"), field_of(*offers, rules=Rules(Policy(), learned=taught.to_bytes())))
    assert after.qualities["acme/a"] < before.qualities["acme/a"]


def test_a_learned_part_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Eyes(PRIOR, Table()).check(b"rubbish")
