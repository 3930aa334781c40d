"""What the router can choose from: a provider's model, its tier, its price and its window. Pure nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TIERS = ("premium", "standard", "slm")
"""From the best to the smallest. A request begins at its own tier and may only go down."""

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-USD per million tokens."""

    price_in: int
    price_out: int

    def cost_microusd(self, input_tokens: int, output_tokens: int) -> int:
        """What these tokens cost, rounded up: money is never lost to rounding."""
        return -(-(input_tokens * self.price_in + output_tokens * self.price_out) // MILLION)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of calls to one model."""

    running: int = 64
    """Calls at once."""
    queued: int = 256
    """Calls that may wait for their place."""
    queue_s: float = 60.0
    """How long one waits there."""
    first_text_s: float = 60.0
    """From the request to the first text."""
    idle_s: float = 30.0
    """Between two pieces of an answer."""
    total_s: float = 280.0
    """For the whole answer."""


USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Provider:
    """Whose models they are and how they are reached."""

    name: str
    kind: str
    """Which adapter speaks to it: "openai" or "scripted"."""
    base_url: str = ""
    key: str = field(default="", repr=False)
    limits: Limits = USUAL
    asks_usage: bool = True
    """It knows `stream_options.include_usage`."""
    max_tokens_field: str = "max_tokens"
    """How it calls the bound of an answer."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one provider."""

    provider: Provider
    model: str
    tier: str
    price: Price | None
    window: int
    """How many tokens question and answer may have together."""
    max_tokens: int
    """The bound of an answer when the request gives none."""
    latency_ms: int
    """The time to the first text that is expected before any was measured."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Sampling options that go into each request as they are."""
    closed: str = ""
    """Why it cannot be chosen whatever is asked, in one sentence. Empty when it can."""

    @property
    def key(self) -> tuple[str, str]:
        return self.provider.name, self.model


@dataclass(frozen=True, slots=True)
class Figures:
    """How an offer is doing at this moment."""

    latency_ms: int | None = None
    """The time to the first text, measured lately; None when it was not."""
    closed: str = ""
    """Why it is closed for now, in one sentence."""
    busy: bool = False
    """Its queue is full."""
    retry_after_s: float = 0.0
    """When a busy one may have room again."""
