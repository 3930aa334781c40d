"""The learning loop on known rows, in order: only the chosen model's outcome is seen."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.common.learning.choose import Weights, pick, probabilities, score_of
from services.common.learning.posterior import Outcome, Posterior

EVERY = 20
"""Outcomes between two trainings."""
WINDOWS = 10
NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class Step:
    """One prompt, and what each model would give for it: as a score, and as it is expected."""

    features: Sequence[float]
    scores: Sequence[float]
    """What is seen when the model is chosen, in [0, 1]."""
    values: Sequence[float]
    """What each choice is truly worth; for known rows the scores, less what they cost."""


@dataclass(frozen=True, slots=True)
class Trace:
    regret: tuple[float, ...]
    """Of each step: the best choice's worth less the chosen one's."""
    optimal: tuple[bool, ...]
    posterior: Posterior

    def share(self, windows: int = WINDOWS) -> list[float]:
        """Of optimal choices, in each of so many equal parts of the time."""
        n = len(self.optimal)
        bounds = [n * i // windows for i in range(windows + 1)]
        return [sum(self.optimal[a:b]) / max(1, b - a) for a, b in pairwise(bounds)]


def simulate(
    posterior: Posterior,
    models: Mapping[str, float],
    steps: Sequence[Step],
    costs_usd: Sequence[float],
    weights: Weights,
    seed: int = 0,
) -> Trace:
    """The router's own expectation and choice, and the trainer's own learning. Models come with the catalogue's
    quality of each."""
    draws, names = random.Random(seed), tuple(models)  # noqa: S311 - a simulation
    view, waiting = posterior.view(models), list[Outcome]()
    regret, optimal = list[float](), list[bool]()
    for step in steps:
        expected = view.predict(step.features)
        scores = [score_of(q, cost * 1e6, 0.0, weights) for q, cost in zip(expected, costs_usd, strict=True)]
        i = pick(probabilities(scores, weights), draws.random())
        waiting.append(Outcome(step.features, names[i], step.scores[i], models[names[i]]))
        regret.append(max(step.values) - step.values[i])
        optimal.append(regret[-1] <= NEAR)
        if len(waiting) == EVERY:
            posterior = posterior.learned(waiting)
            view, waiting = posterior.view(models), []
    return Trace(tuple(regret), tuple(optimal), posterior.learned(waiting))
