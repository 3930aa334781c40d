"""What a policy would have been worth on decisions that another one took and logged.

IPS is Horvitz and Thompson 1952, SNIPS is Swaminathan and Joachims 2015 with the ratio estimator's variance (Owen 2013,
section 9.2), DR is Dudík, Langford and Li 2011. Intervals are normal ones, of two sides; `LEAST_DECISIONS` and
`LEAST_EFFECTIVE` guard them against the few rows for which they would be too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.learning.features import Floats

Z = 1.96
"""Both sides 95 %; the lower bound alone holds with 97.5 %."""
LEAST_DECISIONS = 100
LEAST_EFFECTIVE = 50.0


@dataclass(frozen=True, slots=True)
class Logged:
    """A decision with its outcome. Probabilities and expectations are in the order of its candidates."""

    chosen: int
    propensity: float
    """With which it was chosen, as logged. Above 0."""
    reward: float
    new: Sequence[float]
    """The probabilities that the new policy gives."""
    present: Sequence[float]
    """Those that the present policy gives."""
    expected: Sequence[float]
    """The reward expected of each, by a model that has not seen this outcome. Without one: zeros."""


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    low: float
    high: float
    effective: float
    """How many decisions the weights amount to (Kish 1965)."""


@dataclass(frozen=True, slots=True)
class Estimates:
    ips: Estimate
    snips: Estimate
    dr: Estimate


def estimates(decisions: Sequence[Logged]) -> Estimates:
    """The new policy's value, three times. ValueError without decisions, or with an impossible propensity."""
    checked(decisions)
    weights = np.array([d.new[d.chosen] / d.propensity for d in decisions])
    rewards = np.array([d.reward for d in decisions])
    robust = np.array([doubly(d, d.new) for d in decisions])
    return Estimates(around(weights * rewards, weights), ratio(weights, rewards), around(robust, weights))


def gain(decisions: Sequence[Logged]) -> Estimate:
    """How much more the new policy is worth than the present one: DR of the difference, decision by decision."""
    checked(decisions)
    differences = np.array([doubly(d, d.new) - doubly(d, d.present) for d in decisions])
    return around(differences, np.array([d.new[d.chosen] / d.propensity for d in decisions]))


def is_better(decisions: Sequence[Logged]) -> bool:
    """Whether the new policy's gain is above 0 even at its lower bound, and enough was seen to say so."""
    if len(decisions) < LEAST_DECISIONS:
        return False
    found = gain(decisions)
    return found.effective >= LEAST_EFFECTIVE and found.low > 0


def doubly(decision: Logged, policy: Sequence[float]) -> float:
    model = sum(share * reward for share, reward in zip(policy, decision.expected, strict=True))
    weight = policy[decision.chosen] / decision.propensity
    return model + weight * (decision.reward - decision.expected[decision.chosen])


def around(values: Floats, weights: Floats) -> Estimate:
    value = float(values.mean())
    half = Z * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return Estimate(value, value - half, value + half, effective(weights))


def ratio(weights: Floats, rewards: Floats) -> Estimate:
    total = float(weights.sum())
    if total <= 0:
        return Estimate(0.0, float("-inf"), float("inf"), 0.0)
    value = float(weights @ rewards) / total
    half = Z * float(np.sqrt((weights**2 * (rewards - value) ** 2).sum())) / total
    return Estimate(value, value - half, value + half, effective(weights))


def effective(weights: Floats) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def checked(decisions: Sequence[Logged]) -> None:
    if not decisions:
        raise ValueError("There are no decisions to estimate from.")
    if any(not 0 < d.propensity <= 1 for d in decisions):
        raise ValueError("A decision was logged with a propensity that is not above 0 and at most 1.")
