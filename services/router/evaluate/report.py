"""The whole evaluation: learned on some rows, measured on others, or in folds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.common.learning.choose import MOST_EXPLORED, SHARPNESS, score_of, weights_of
from services.common.learning.posterior import Posterior
from services.router.evaluate import curve
from services.router.evaluate.routed import (
    DIAL,
    Embedding,
    Result,
    Router,
    alone,
    along,
    at_random,
    learn,
    mean,
    oracle,
    within,
)
from services.router.evaluate.rows import Row, sameness
from services.router.evaluate.simulate import WINDOWS, Step, simulate

Embed = Callable[[Sequence[str]], Sequence[Embedding]]
FOLDS, MIDDLE = 5, 0.5
TIMED = 100
"""Prompts whose decisions are timed, one by one."""
COLD = 0.5


class Unfit(ValueError):  # noqa: N818 - it is told to a person
    """Rows that cannot be evaluated; its text says why."""


@dataclass(frozen=True, slots=True)
class Bandit:
    """Of a tenant that begins without knowing any of the models."""

    decisions: int
    regret: float
    """All of it, in points of score less what cost weighs."""
    random_regret: float
    """What choosing blindly would have had."""
    optimal_share: tuple[float, ...]
    """In each tenth of the time."""


@dataclass(frozen=True, slots=True)
class Report:
    models: Mapping[str, Result]
    ours: Result
    """At the dial's middle, or as high as the budget lets it stand."""
    random: Result
    oracle: Result
    along: tuple[tuple[float, Result], ...]
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    curve: tuple[float, ...]
    """PGR at 0, 1, … 100 % strong calls; empty without two models and a gap."""
    decision_ms: tuple[float, float]
    """p50 and p95, the embedding in it."""
    bandit: Bandit

    def facts(self) -> dict[str, Any]:
        return {
            "models": {model: facts_of(result) for model, result in self.models.items()},
            "ours": {**facts_of(self.ours), "dial": [{"at": at, **facts_of(one)} for at, one in self.along]},
            "random": facts_of(self.random),
            "oracle": facts_of(self.oracle),
            "apgr": self.apgr,
            "cpt50": self.cpt50,
            "cpt80": self.cpt80,
            "decision_ms": {"p50": round(self.decision_ms[0], 4), "p95": round(self.decision_ms[1], 4)},
            "bandit": {
                "decisions": self.bandit.decisions,
                "regret": self.bandit.regret,
                "random_regret": self.bandit.random_regret,
                "optimal_share": list(self.bandit.optimal_share),
            },
        }


def facts_of(result: Result) -> dict[str, float | None]:
    return {"accuracy": result.accuracy, "cost_usd": result.cost_usd}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Its embeddings are of every row's prompt that will be met; None evaluates the router without the embedder."""

    embeddings: Mapping[str, Embedding] | None
    embed: Embed | None
    budget_usd: float | None = None

    def on(self, train: Sequence[Row], test: Sequence[Row]) -> Report:
        """Learned on `train` alone. Unfit when there is nothing to learn or to measure."""
        if not test:
            raise Unfit("No row is left to test with.")
        try:
            router = learn(train, self.all_of(train))
        except ValueError as error:
            raise Unfit(str(error)) from error
        rows = complete(test, router.models)
        expected = [router.expected(row, self.one_of(row)) for row in rows]
        alones = {model: alone(rows, model) for model in router.models}
        steps = tuple(along(router, rows, expected))
        pgr = strong_curve(router, rows, expected)
        return Report(
            models=alones,
            ours=dict(steps)[self.dial(router, rows, expected)],
            random=at_random(list(alones.values())),
            oracle=oracle(rows),
            along=steps,
            apgr=curve.apgr(pgr) if pgr else None,
            cpt50=curve.cpt(pgr, 0.5) if pgr else None,
            cpt80=curve.cpt(pgr, 0.8) if pgr else None,
            curve=tuple(pgr[round(i * (len(pgr) - 1) / 100)] for i in range(101)) if pgr else (),
            decision_ms=timed(router, rows[:TIMED], self.one_of, self.embed),
            bandit=bandit_of(router, rows, [router.prior.features.of(r.prompt, self.one_of(r), r.task) for r in rows]),
        )

    def folds(self, rows: Sequence[Row], seed: int = 0, say: Callable[[str], None] | None = None) -> Report:
        """Five of them, each measured by what the other four teach: what they cost together, else the mean. `say` hears
        of each one."""
        place, reports = folded([row.prompt for row in rows], seed), []
        for fold in range(FOLDS):
            train = [row for row, at in zip(rows, place, strict=True) if at != fold]
            test = [row for row, at in zip(rows, place, strict=True) if at == fold]
            reports.append(self.of(len(test) / len(rows)).on(train, test))
            if say:
                say(f"Fold {fold + 1} of {FOLDS}: {len(test):,} rows, by what {len(train):,} others teach.")
        return mean_of(reports)

    def of(self, share: float) -> Evaluation:
        """With a share of the budget."""
        return replace(self, budget_usd=None if self.budget_usd is None else self.budget_usd * share)

    def dial(self, router: Router, rows: Sequence[Row], expected: Sequence[Sequence[float]]) -> float:
        if self.budget_usd is None:
            return MIDDLE
        dial = within(router, rows, expected, self.budget_usd)
        if dial is None:
            raise Unfit(f"A budget of ${self.budget_usd:g} does not pay for {len(rows)} prompts even at the cheapest.")
        return dial

    def one_of(self, row: Row) -> Embedding | None:
        return None if self.embeddings is None else self.embeddings[row.prompt]

    def all_of(self, rows: Sequence[Row]) -> list[Embedding] | None:
        return None if self.embeddings is None else [self.embeddings[row.prompt] for row in rows]


def folded(prompts: Sequence[str], seed: int) -> list[int]:
    """The fold of each prompt; equal ones are in the same."""
    kinds = list(dict.fromkeys(map(sameness, prompts)))
    random.Random(seed).shuffle(kinds)  # noqa: S311 - which fold is no secret
    place = {kind: n % FOLDS for n, kind in enumerate(kinds)}
    return [place[sameness(prompt)] for prompt in prompts]


def complete(rows: Sequence[Row], models: Sequence[str]) -> list[Row]:
    """The rows with the outcomes of just these models. Unfit when one is missing."""
    for row in rows:
        missing = [model for model in models if model not in row.outcomes]
        if missing:
            raise Unfit(f"A row to test with has no outcome of {missing[0]}: {row.prompt[:60]!r}")
    return [replace(row, outcomes={model: row.outcomes[model] for model in models}) for row in rows]


def strong_curve(router: Router, rows: Sequence[Row], expected: Sequence[Sequence[float]]) -> list[float] | None:
    """Of two models; which one is the strong one is known from the training."""
    if len(router.models) != 2:
        return None
    habits = [router.habits[model] for model in router.models]
    strong = max((0, 1), key=lambda i: (habits[i].score, habits[i].cost_usd))
    by = [[row.outcomes[model].score for row in rows] for model in router.models]
    return curve.recovered([q[strong] - q[1 - strong] for q in expected], by[1 - strong], by[strong])


def bandit_of(router: Router, rows: Sequence[Row], features: Sequence[Sequence[float]]) -> Bandit:
    weights = weights_of(MIDDLE, SHARPNESS, MOST_EXPLORED)
    steps = [Step(x, [o.score for o in r.outcomes.values()], worth(r)) for x, r in zip(features, rows, strict=True)]
    strangers = {f"{model} as a stranger": COLD for model in router.models}
    costs = [router.habits[model].cost_usd for model in router.models]
    trace = simulate(Posterior(router.prior, {}), strangers, steps, costs, weights)
    blind = sum(max(step.values) - mean(step.values) for step in steps)
    return Bandit(len(steps), sum(trace.regret), blind, tuple(trace.share(WINDOWS)))


def worth(row: Row) -> list[float]:
    weights = weights_of(MIDDLE)
    return [score_of(one.score, (one.cost_usd or 0.0) * 1e6, 0.0, weights) for one in row.outcomes.values()]


def timed(
    router: Router, rows: Sequence[Row], known: Callable[[Row], Embedding | None], embed: Embed | None
) -> tuple[float, float]:
    """Milliseconds of a decision, at the median and at 95 %."""
    took = []
    for row in rows:
        begin = time.perf_counter()
        embedding = embed([row.prompt])[0] if embed else known(row)
        router.choice(router.expected(row, embedding), MIDDLE)
        took.append((time.perf_counter() - begin) * 1e3)
    took.sort()
    return took[len(took) // 2], took[min(len(took) - 1, len(took) * 95 // 100)]


def mean_of(reports: Sequence[Report]) -> Report:
    first, n = reports[0], len(reports)
    if any(list(report.models) != list(first.models) for report in reports):
        raise Unfit("A fold lacks a model: give more rows of each, or --test FILE.")
    shares = [mean([r.bandit.optimal_share[i] for r in reports]) for i in range(WINDOWS)]
    return Report(
        models={model: mean_result([r.models[model] for r in reports]) for model in first.models},
        ours=mean_result([r.ours for r in reports]),
        random=mean_result([r.random for r in reports]),
        oracle=mean_result([r.oracle for r in reports]),
        along=tuple((at, mean_result([r.along[i][1] for r in reports])) for i, at in enumerate(DIAL)),
        apgr=mean_known([r.apgr for r in reports]),
        cpt50=mean_known([r.cpt50 for r in reports]),
        cpt80=mean_known([r.cpt80 for r in reports]),
        curve=tuple(mean(points) for points in zip(*(r.curve for r in reports if r.curve), strict=True)),
        decision_ms=(mean([r.decision_ms[0] for r in reports]), mean([r.decision_ms[1] for r in reports])),
        bandit=Bandit(
            sum(r.bandit.decisions for r in reports) // n,
            mean([r.bandit.regret for r in reports]),
            mean([r.bandit.random_regret for r in reports]),
            tuple(shares),
        ),
    )


def mean_result(results: Sequence[Result]) -> Result:
    """The mean accuracy, and the cost of all rows together."""
    cost_usd = mean_known([r.cost_usd for r in results])
    return Result(mean([r.accuracy for r in results]), None if cost_usd is None else cost_usd * len(results))


def mean_known(numbers: Sequence[float | None]) -> float | None:
    """None as soon as one is."""
    known = [number for number in numbers if number is not None]
    return mean(known) if len(known) == len(numbers) else None
