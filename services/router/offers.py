"""What the router can choose from: a provider's model, its tier, its price and its window. Pure nouns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

TIERS = ("premium", "standard", "slm")
"""From the best to the smallest. A request begins at its own tier and may only go down."""

MILLION = 1_000_000

TRAITS = frozenset({"thinks", "adaptive", "xhigh", "native_json", "no_forced_tools", "no_sampling", "tools_as_json"})
"""What an adapter must know of a model to word a request: it can think at length; it chooses itself how long, up to the
effort "xhigh"; it keeps to a schema by itself; it cannot be made to call a tool; it takes no temperature; it knows no
tools, but keeps to a schema in which it can call them."""
QUALITY = {"premium": 0.85, "standard": 0.7, "slm": 0.4}
"""What is expected of a tier's models before anything was learned."""


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-USD per million tokens."""

    price_in: int
    price_out: int
    price_cached: int | None = None
    """Of input that the provider read from its cache; None: as all input."""
    price_cache_write: int | None = None
    """Of input that the provider wrote into its cache; None: as all input."""
    above: Above | None = None
    """What long prompts cost instead, where that is another price."""

    def at(self, input_tokens: int) -> Price:
        """What holds for a prompt of that length, all of it and its answer."""
        return self.above.price if self.above and input_tokens > self.above.tokens else self

    def cost_microusd(self, input_tokens: int, output_tokens: int, cached: int = 0, cache_write: int = 0) -> int:
        """What these tokens cost, rounded up: money is never lost to rounding. `cached` and `cache_write` are parts of
        `input_tokens`."""
        if (long := self.at(input_tokens)) is not self:
            return long.cost_microusd(input_tokens, output_tokens, cached, cache_write)
        cached = min(cached, input_tokens)
        cache_write = min(cache_write, input_tokens - cached)
        plain = input_tokens - cached - cache_write
        read = self.price_in if self.price_cached is None else self.price_cached
        written = self.price_in if self.price_cache_write is None else self.price_cache_write
        total = plain * self.price_in + cached * read + cache_write * written + output_tokens * self.price_out
        return -(-total // MILLION)

    def most_microusd(self, input_tokens: int, output_tokens: int) -> int:
        """The most that as many tokens can cost, whatever the cache does."""
        price = self.at(input_tokens)
        return -(-(input_tokens * price.dearest_in + output_tokens * price.price_out) // MILLION)

    @property
    def dearest_in(self) -> int:
        return max(self.price_in, self.price_cached or 0, self.price_cache_write or 0)

    @property
    def is_free(self) -> bool:
        return not (self.price_in or self.price_out)


class Above(NamedTuple):
    """The price of prompts that are longer."""

    tokens: int
    price: Price


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
    connect_s: float = 3.0
    """Until there is a connection: its name looked up, its TLS agreed."""
    running_total: int | None = None
    """Calls at once to all models of the provider; then `queued` bounds those that wait for any of them. None: each
    model has its own bounds alone."""


USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Provider:
    """Whose models they are and how they are reached."""

    name: str
    kind: str
    """Which adapter speaks to it: "openai", "anthropic", "litellm" or "scripted"."""
    base_url: str = ""
    key: str = field(default="", repr=False)
    limits: Limits = USUAL
    asks_usage: bool = True
    """It knows `stream_options.include_usage`."""
    whole: bool = False
    """It is asked for an answer in one piece by who does not wait for its beginning."""
    max_tokens_field: str = "max_tokens"
    """How it calls the bound of an answer."""
    jurisdictions: frozenset[str] = frozenset()
    """Where it reads texts, such as "eu"; "here" is this machine. None: nobody knows, so it is closed to who asks."""
    litellm: str = ""
    """Its name at litellm, for the kind "litellm"."""

    @property
    def is_here(self) -> bool:
        """What it is sent stays on this machine."""
        return "here" in self.jurisdictions


def away(provider: Provider, allowed: Collection[str]) -> str:
    """Why a text may not be read there when it may be read in these places alone; empty when it may. Nothing that is
    named allows everywhere; this machine is always allowed; of a provider's places all must be."""
    places = provider.jurisdictions
    if not allowed or provider.is_here or (places and places <= set(allowed)):
        return ""
    return f"It reads texts in {', '.join(sorted(places)) or 'an unknown place'}; allowed is {', '.join(allowed)}."


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
    closed_by: str = ""
    """The filter that closed it: "mode", "health" or "policy"."""
    capabilities: frozenset[str] = frozenset()
    """Of "tools", "json" and "vision"; "embeddings" of one that makes vectors, and answers nothing."""
    quality: float = 0.5
    """What is expected of its answers before anything was learned: 0 to 1."""
    traits: frozenset[str] = frozenset()
    """Of TRAITS."""

    @property
    def name(self) -> str:
        return f"{self.provider.name}/{self.model}"

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
