"""How much room budgets have for a call. Pure nouns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call costs, or the most that it can cost."""

    microusd: int
    tokens: int
    requests: int = 1


@dataclass(frozen=True, slots=True)
class Scopes:
    """Under whose budgets a call falls, besides its tenant's. Empty for none."""

    user: str
    team: str = ""
    conversation: str = ""
    task: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one budget in its present window. None: not bounded."""

    budget: str
    """Its name, "budgets/…"."""
    title: str
    """Whose it is and for how long, for a person: "the budget of team red for this day"."""
    tier: str
    """The only tier whose calls count; empty for all."""
    microusd: int | None
    tokens: int | None
    requests: int | None
    renews: datetime | None
    """When there is room again; None for never."""

    def is_short_of(self, most: Amount) -> bool:
        """There is no room for that much."""
        return (
            (self.microusd is not None and most.microusd > self.microusd)
            or (self.tokens is not None and most.tokens > self.tokens)
            or (self.requests is not None and most.requests > self.requests)
        )


Room: TypeAlias = Sequence[Left]
"""One for each budget that a call may fall under, the narrowest first. Empty where nothing is bounded, or known."""
