"""Drawing from strategies: so many cases, the same in each run."""

from __future__ import annotations

import os
from typing import TypeVar

import hypothesis
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

TIMES = float(os.environ.get("SOMA_FUZZ_TIMES", "1"))
"""How many times as long as in `make test`: for a run by hand."""
SEED = int(os.environ.get("SOMA_FUZZ_SEED", "1"))


def draw(strategy: SearchStrategy[T], count: int) -> list[T]:
    """At most `count` values, times SOMA_FUZZ_TIMES."""
    drawn: list[T] = []

    @hypothesis.seed(SEED)
    @settings(max_examples=max(1, round(count * TIMES)), phases=[Phase.generate])
    @given(strategy)
    def collect(value: T) -> None:
        drawn.append(value)

    collect()
    return drawn
