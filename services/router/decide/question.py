"""What is asked of a decision: the kind of question, the question, and the moment it falls in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.router.budgets.room import Room
from services.router.offers import Figures, Offer
from services.router.window import Size

DEFAULT_TIER = "standard"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a question closes offers whatever the hour. Many questions are alike in it."""

    tier: str = DEFAULT_TIER
    """ "auto", or where to begin."""
    needs: frozenset[str] = frozenset()
    """Of "tools", "json", "vision" and "embeddings"."""
    hints: bytes = b""
    """The request's Hints."""
    models: frozenset[str] = frozenset()
    """The only ones that the caller's key may use, by their names. None: all."""


@dataclass(frozen=True, slots=True)
class Question:
    """What differs from one question to the next."""

    size: Size
    max_tokens: int = 0
    """The bound that the request gives; 0 when it gives none."""
    features: Sequence[float] = ()
    """What the learned part sees of it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision needs to know beside the question."""

    figures_of: Callable[[Offer], Figures]
    qualities: Mapping[str, float] = field(default_factory=dict)
    """What was learned of offers for this question, by their names."""
    room: Room = ()
    draw: float = 0.0
    prices: str = ""
    mode: str = ""
