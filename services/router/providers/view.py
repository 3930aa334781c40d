"""Providers as a tenant finds them, and what turns one off and on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.router.live import tally as live
from services.router.offers import Figures, Offer, away
from services.router.policies.rules import Rules
from soma.router.v1.policy_pb2 import ModelPrice, Policy
from soma.router.v1.provider_pb2 import Provider, ProviderModel, Standing


@dataclass(frozen=True, slots=True)
class Seen:
    """How models are doing, over all routers that are heard."""

    figures: Callable[[Offer], Figures]
    """At this moment."""
    standing: Callable[[Offer], live.Standing]
    """Of the last five minutes."""


def providers_of(offers: tuple[Offer, ...], rules: Rules, seen: Seen) -> list[Provider]:
    """By name, each with its models in the catalogue's order."""
    found: dict[str, list[Offer]] = {}
    for offer in rules.offers(offers):
        found.setdefault(offer.provider.name, []).append(offer)
    return [provider_of(found[name], rules, seen) for name in sorted(found)]


def provider_of(offers: Sequence[Offer], rules: Rules, seen: Seen) -> Provider:
    """The provider of these offers, which are all that it has."""
    provider = offers[0].provider
    return Provider(
        name=f"providers/{provider.name}",
        kind=provider.kind,
        enabled=is_enabled(rules.policy, provider.name),
        jurisdictions=sorted(provider.jurisdictions),
        models=[model_of(offer, rules, seen) for offer in offers],
    )


def model_of(offer: Offer, rules: Rules, seen: Seen) -> ProviderModel:
    figures = seen.figures(offer)
    latency_ms = offer.latency_ms if figures.latency_ms is None else figures.latency_ms
    price = offer.price
    return ProviderModel(
        model=offer.model,
        tier=offer.tier,
        closed=offer.closed or away(offer.provider, sorted(rules.jurisdictions)) or unpriced(offer) or figures.closed,
        price=ModelPrice(input=price.price_in, output=price.price_out) if price else None,
        window_tokens=offer.window,
        capabilities=sorted(offer.capabilities),
        quality=offer.quality,
        latency_ms=latency_ms,
        standing=standing_of(seen.standing(offer)),
    )


def standing_of(told: live.Standing) -> Standing:
    """What was not measured is absent."""
    return Standing(
        error_rate=told.error_rate,
        first_token_p50_ms=told.first_p50_ms,
        first_token_p95_ms=told.first_p95_ms,
        total_p50_ms=told.whole_p50_ms,
        total_p95_ms=told.whole_p95_ms,
        tokens_per_s=told.tokens_per_s,
    )


def unpriced(offer: Offer) -> str:
    return "" if offer.price else "Its price is unknown, and the policy states no ceiling for that."


def is_enabled(policy: Policy, provider: str) -> bool:
    """Whether the policy lets the provider be used at all; its models may be closed one by one."""
    whole = f"{provider}/*"
    listed = not policy.allowed_models or any(name.startswith(f"{provider}/") for name in policy.allowed_models)
    return listed and whole not in policy.denied_models and not any(r.closed for r in policy.models if r.model == whole)


def switched(policy: Policy, provider: str, *, enabled: bool) -> Policy:
    """The policy with the provider turned on or off, and nothing else changed."""
    made, whole = Policy(), f"{provider}/*"
    made.CopyFrom(policy)
    if is_enabled(policy, provider) == enabled:
        return made
    if not enabled:
        made.denied_models.append(whole)
        return made
    made.denied_models[:] = [name for name in policy.denied_models if name != whole]
    for rule in made.models:
        rule.closed = rule.closed and rule.model != whole
    if not is_enabled(made, provider):
        made.allowed_models.append(whole)
    return made
