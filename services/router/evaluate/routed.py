"""Which model answers each prompt, by the router's own features, expectations and choice, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from services.common.learning.choose import Weights, pick, probabilities, score_of, weights_of
from services.common.learning.posterior import Posterior, View
from services.common.learning.prior import Example, Prior, train
from services.router.evaluate.rows import Row

Embedding: TypeAlias = Any
"""What the embedder gives for one text: 384 numbers."""
DIAL = tuple(n / 20 for n in range(21))


@dataclass(frozen=True, slots=True)
class Habit:
    """What a model usually does, from the training alone."""

    score: float
    cost_usd: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Router:
    prior: Prior
    view: View
    habits: Mapping[str, Habit]

    @property
    def models(self) -> tuple[str, ...]:
        return self.view.models

    def expected(self, row: Row, embedding: Embedding | None) -> list[float]:
        return self.view.predict(self.prior.features.of(row.prompt, embedding, row.task))

    def scores(self, expected: Sequence[float], weights: Weights) -> list[float]:
        habits = [self.habits[model] for model in self.models]
        return [
            score_of(quality, habit.cost_usd * 1e6, habit.latency_s * 1e3, weights)
            for quality, habit in zip(expected, habits, strict=True)
        ]

    def choice(self, expected: Sequence[float], dial: float) -> int:
        weights = weights_of(dial)
        return pick(probabilities(self.scores(expected, weights), weights), 0.0)


def learn(rows: Sequence[Row], embeddings: Sequence[Embedding] | None) -> Router:
    """A router from these rows and nothing else. ValueError when they are too few."""
    examples = [Example(r.prompt, r.task, {m: o.score for m, o in r.outcomes.items()}) for r in rows]
    prior = train(examples, embeddings)
    models = {model: known.quality for model, known in prior.known.items()}
    return Router(prior, Posterior(prior, {}).view(models), {model: habit_of(model, rows) for model in models})


def habit_of(model: str, rows: Sequence[Row]) -> Habit:
    seen = [row.outcomes[model] for row in rows if model in row.outcomes]
    return Habit(
        mean([one.score for one in seen]),
        mean([one.cost_usd for one in seen if one.cost_usd is not None]),
        mean([one.latency_s for one in seen if one.latency_s is not None]),
    )


@dataclass(frozen=True, slots=True)
class Result:
    accuracy: float
    cost_usd: float | None
    """Of all rows together; None when the rows do not say it."""


def result(chosen: Sequence[tuple[Row, str]]) -> Result:
    outcomes = [row.outcomes[model] for row, model in chosen]
    costs = [one.cost_usd for one in outcomes if one.cost_usd is not None]
    return Result(mean([one.score for one in outcomes]), sum(costs) if len(costs) == len(outcomes) else None)


def alone(rows: Sequence[Row], model: str) -> Result:
    return result([(row, model) for row in rows])


def oracle(rows: Sequence[Row]) -> Result:
    """The best outcome of each row; the cheapest of equal ones."""
    return result([(row, max(row.outcomes, key=lambda m: best_first(row, m))) for row in rows])


def best_first(row: Row, model: str) -> tuple[float, float]:
    one = row.outcomes[model]
    return one.score, -(one.cost_usd or 0.0)


def at_random(alone: Sequence[Result]) -> Result:
    """What choosing blindly is expected to give."""
    costs = [one.cost_usd for one in alone if one.cost_usd is not None]
    return Result(mean([one.accuracy for one in alone]), mean(costs) if len(costs) == len(alone) else None)


def along(router: Router, rows: Sequence[Row], expected: Sequence[Sequence[float]]) -> list[tuple[float, Result]]:
    """Ours, from the cheapest end of the dial to the best."""
    return [(dial, result(chosen(router, rows, expected, dial))) for dial in DIAL]


def chosen(
    router: Router, rows: Sequence[Row], expected: Sequence[Sequence[float]], dial: float
) -> list[tuple[Row, str]]:
    return [(row, router.models[router.choice(q, dial)]) for row, q in zip(rows, expected, strict=True)]


def within(router: Router, rows: Sequence[Row], expected: Sequence[Sequence[float]], budget_usd: float) -> float | None:
    """The highest place of the dial whose expected cost is within the budget; None when not even the lowest is.
    Looks at what the models cost in training, not at the rows' own outcomes."""
    for dial in reversed(DIAL):
        costs = [router.habits[model].cost_usd for _, model in chosen(router, rows, expected, dial)]
        if sum(costs) <= budget_usd:
            return dial
    return None


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
