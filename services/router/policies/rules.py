"""A tenant's policy as a decision uses it: what it closes, what it sets right, how far hints may go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.common.learning.choose import DIAL, Weights, weights_by
from services.router.offers import TIERS, Offer, Price
from soma.router.v1.policy_pb2 import ModelPrice, ModelRule, Policy
from soma.router.v1.routing_pb2 import Hints

NOWHERE = "nowhere"
"""What two lists of jurisdictions have in common that have nothing in common: no provider is there."""
BUILT_IN_NAME = "policies/0"


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """One version of a policy, ready to be asked."""

    policy: Policy
    learned: bytes | None = None
    """What quality is read from; None: the catalogue's figures."""
    weights: Weights = field(init=False)
    tiers: frozenset[str] = field(init=False)
    """Those that may answer."""
    jurisdictions: frozenset[str] = field(init=False)
    """Where texts may be read. None: anywhere."""
    _allowed: frozenset[str] = field(init=False)
    _denied: frozenset[str] = field(init=False)
    _rules: Mapping[str, ModelRule] = field(init=False)
    _adapted: list[tuple[tuple[Offer, ...], tuple[Offer, ...]]] = field(init=False, default_factory=list, repr=False)

    def __post_init__(self) -> None:
        policy = self.policy
        made: dict[str, Any] = {
            "weights": weights_by(policy, is_learned=self.learned is not None),
            "tiers": frozenset(TIERS[TIERS.index(policy.highest_tier or TIERS[0]) :]),
            "jurisdictions": frozenset(policy.jurisdictions),
            "_allowed": frozenset(policy.allowed_models),
            "_denied": frozenset(policy.denied_models),
            "_rules": {rule.model: rule for rule in policy.models},
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def max_cost_microusd(self) -> int:
        """0 is no bound."""
        return self.policy.max_cost_microusd

    @property
    def max_latency_ms(self) -> int:
        """0 is no bound."""
        return self.policy.max_latency_ms

    @property
    def min_quality(self) -> float:
        return self.policy.min_quality

    def closed(self, offer: Offer) -> str:
        """Why the policy closes it, in one sentence; empty when it does not. Ask about what `adapt` gave."""
        if offer.tier not in self.tiers:
            return f"The policy allows no model of the {offer.tier} tier."
        if names(self._denied, offer):
            return "The policy denies it."
        if self._allowed and not names(self._allowed, offer):
            return "It is not among the models that the policy allows."
        if any(rule.closed for rule in self._of(offer)):
            return "A rule of the policy closes it."
        return ""

    def adapt(self, offer: Offer) -> Offer:
        """With the price, tier and quality that the policy gives it: the rule of the model counts before that of its
        provider, the ceiling of unknown prices where there is no price at all. The policy's price is that of cached
        input too."""
        for rule in self._of(offer):
            offer = ruled(offer, rule)
        if offer.price is None and self.policy.HasField("unknown_price"):
            return replace(offer, price=price_of(self.policy.unknown_price))
        return offer

    def offers(self, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
        """All of them, each adapted, and closed by "policy" where the policy closes it. The same tuple is worked out
        once."""
        for known, made in self._adapted:
            if known is offers:
                return made
        adapted = tuple(self._offer(offer) for offer in offers)
        self._adapted[:] = [(offers, adapted)]
        return adapted

    def clamp(self, hints: Hints) -> Hints:
        """The hints as far as the policy lets them go: the lower bound of cost and latency, the higher quality, the
        jurisdictions that are in both."""
        policy, clamped = self.policy, Hints()
        clamped.CopyFrom(hints)
        clamped.max_cost_microusd = lower(hints.max_cost_microusd, policy.max_cost_microusd)
        clamped.max_latency_ms = lower(hints.max_latency_ms, policy.max_latency_ms)
        clamped.min_quality = max(hints.min_quality, policy.min_quality)
        if self.jurisdictions:
            asked = frozenset(hints.jurisdictions) or self.jurisdictions
            clamped.jurisdictions[:] = sorted(asked & self.jurisdictions) or [NOWHERE]
        return clamped

    def _of(self, offer: Offer) -> Iterable[ModelRule]:
        """The provider's rule, then the model's."""
        found = (self._rules.get(f"{offer.provider.name}/*"), self._rules.get(offer.name))
        return [rule for rule in found if rule is not None]

    def _offer(self, offer: Offer) -> Offer:
        adapted = self.adapt(offer)
        why = "" if adapted.closed else self.closed(adapted)
        return replace(adapted, closed=why, closed_by="policy") if why else adapted


def names(listed: frozenset[str], offer: Offer) -> bool:
    """The model is listed, or its provider is as "provider/*"."""
    return offer.name in listed or f"{offer.provider.name}/*" in listed


def ruled(offer: Offer, rule: ModelRule) -> Offer:
    return replace(
        offer,
        price=price_of(rule.price) if rule.HasField("price") else offer.price,
        tier=rule.tier or offer.tier,
        quality=rule.quality if rule.HasField("quality") else offer.quality,
    )


def price_of(price: ModelPrice) -> Price:
    return Price(price.input, price.output)


def lower(one: int, other: int) -> int:
    """The lower of two bounds, of which 0 is none."""
    return min(one, other) if one and other else one or other


BUILT_IN = Rules(Policy(name=BUILT_IN_NAME, dial=DIAL, author="system:router"))
"""What holds for a tenant that has no policy of its own."""
