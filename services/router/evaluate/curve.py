"""What is won by sending only some calls to the stronger of two models. Pure.

As RouteLLM defines it (Ong et al. 2024, arXiv:2406.18665): PGR is the share of the gap between the weak and the strong
model that is recovered; APGR is its mean over 0-100 % strong calls; CPT(x) is the least share of strong calls that
recovers x.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

ROUNDING = 1e-9


def recovered(margins: Sequence[float], weak: Sequence[float], strong: Sequence[float]) -> list[float] | None:
    """PGR with the 0, 1, … n calls of the largest margin sent to the strong model; None when it is not better.

    Calls of one margin cannot be told apart: each of them counts as their mean."""
    gap = sum(strong) - sum(weak)
    if gap <= ROUNDING:
        return None
    gains: dict[float, list[float]] = {}
    for margin, w, s in zip(margins, weak, strong, strict=True):
        gains.setdefault(margin, []).append(s - w)
    evened = [sum(gains[m]) / len(gains[m]) for m in sorted(gains, reverse=True) for _ in gains[m]]
    return [won / gap for won in accumulate(evened, initial=0.0)]


def apgr(curve: Sequence[float]) -> float:
    """The area below, by trapezoids."""
    return sum((a + b) / 2 for a, b in pairwise(curve)) / (len(curve) - 1)


def cpt(curve: Sequence[float], share: float) -> float:
    """The least share of strong calls that recovers so much of the gap."""
    first = next((i for i, won in enumerate(curve) if won >= share - ROUNDING), len(curve) - 1)
    return first / (len(curve) - 1)
