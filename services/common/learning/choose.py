"""From what is expected of each open model to a choice with a known probability. Pure.

score = quality - per_usd * cost - per_s * latency. The choice is inverse gap weighting (Foster and Rakhlin 2020,
"Beyond UCB", SquareCB): a model whose score lies `gap` below the best of K is chosen with probability
1 / (K + sharpness * gap), the best one with what is left. `most_explored` bounds what the others have together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma.router.v1.policy_pb2 import Policy

DIAL = 0.5
MOST_EXPLORED = 0.05
SHARPNESS = 50.0
"""A model that seems a fifth of the scale worse is tried as often as it would be among ten more."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a point of quality is worth, and how much is tried out."""

    per_usd: float
    """Quality points that a dollar costs."""
    per_s: float
    """Quality points that a second until the first text costs."""
    sharpness: float = 0.0
    """How fast what is worse is no longer tried; 0 tries all alike, within the bound."""
    most_explored: float = 0.0
    """The largest share of choices that may go to other than the best; 0 turns exploration off."""


def weights_of(dial: float, sharpness: float = 0.0, most_explored: float = 0.0) -> Weights:
    """The weights at a tenant's dial: 0 is cheapest and fastest, 1 is best. In the middle a cent weighs 0.1 and a
    second 0.02; at either end a hundred times, and ten times, as much or as little."""
    return Weights(10 ** (3 - 4 * dial), 0.02 * 10 ** (1 - 2 * dial), sharpness, most_explored)


def weights_by(policy: Policy, *, is_learned: bool) -> Weights:
    """A policy's. Before anything is learned it explores only when it says by itself how much."""
    dial = policy.dial if policy.HasField("dial") else DIAL
    usual = MOST_EXPLORED if is_learned else 0.0
    return weights_of(dial, SHARPNESS, policy.most_explored if policy.HasField("most_explored") else usual)


def score_of(quality: float, cost_microusd: float, latency_ms: float, weights: Weights) -> float:
    """Three sums and products of IEEE 754: a replay elsewhere gives the same to the last bit."""
    return quality - weights.per_usd * cost_microusd / 1e6 - weights.per_s * latency_ms / 1e3


def probabilities(scores: Sequence[float], weights: Weights) -> list[float]:
    """The chance of each, in the order given; of equal ones the first counts as best. They add up to 1."""
    best = max(range(len(scores)), key=scores.__getitem__)
    if weights.most_explored <= 0 or len(scores) < 2:
        return [float(i == best) for i in range(len(scores))]
    k, sharpness, most = len(scores), weights.sharpness, scores[best]
    shares = [1 / (k + sharpness * (most - score)) for score in scores]
    shares[best] = 0.0
    scale = min(1.0, weights.most_explored / sum(shares))
    chances = [round(share * scale, 9) for share in shares]
    chances[best] = round(1.0 - sum(chances), 9)
    return chances


def pick(chances: Sequence[float], draw: float) -> int:
    """Which one a number of [0, 1) falls on."""
    for i, chance in enumerate(chances):
        draw -= chance
        if draw < 0:
            return i
    return max(range(len(chances)), key=chances.__getitem__)
