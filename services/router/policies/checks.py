"""What a policy must be besides what its contract's rules say. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from services.common.errors import Invalid
from services.router.offers import Offer, away
from services.router.policies.rules import Rules, names
from soma.router.v1.policy_pb2 import Policy

PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}/(\*|[^*]+)")
"""Of one model, or of all of a provider's."""
DIGEST = re.compile(r"[0-9a-f]{64}")


def check_policy(policy: Policy, offers: Sequence[Offer]) -> None:
    """Raise Invalid POLICY_INVALID, the metadata name the field."""
    for field, listed in patterns(policy):
        check_patterns(field, listed)
    check_price(policy)
    if policy.learned and not DIGEST.fullmatch(policy.learned):
        raise invalid("learned", "The learned part is named by its SHA-256: 64 of 0-9 and a-f.")
    check_leaves_some(policy, offers)


def patterns(policy: Policy) -> Iterator[tuple[str, Sequence[str]]]:
    yield "allowed_models", policy.allowed_models
    yield "denied_models", policy.denied_models
    yield "models", [rule.model for rule in policy.models]


def check_patterns(field: str, listed: Sequence[str]) -> None:
    for pattern in listed:
        if not PATTERN.fullmatch(pattern):
            raise invalid(
                field, f"{pattern[:100]!r} names no models: write provider/model, or provider/* for all of it."
            )
    if len(set(listed)) < len(listed):
        raise invalid(field, "It names the same models twice. Say it once.")


def check_price(policy: Policy) -> None:
    ceiling = policy.unknown_price
    if policy.HasField("unknown_price") and not (ceiling.input and ceiling.output):
        message = "What has no known price cannot be taken to cost nothing. State both, or leave it out to close it."
        raise invalid("unknown_price", message)


def check_leaves_some(policy: Policy, offers: Sequence[Offer]) -> None:
    """The first field by which no model of the catalogue is left."""
    rules = Rules(policy)
    left = [rules.adapt(offer) for offer in offers]
    for field, lets in filters(rules):
        left = [offer for offer in left if lets(offer)]
        if not left:
            raise invalid(field, "This leaves no model of the catalogue open. GET /v1/providers lists what there is.")


def filters(rules: Rules) -> Iterator[tuple[str, Callable[[Offer], bool]]]:
    allowed, denied = frozenset(rules.policy.allowed_models), frozenset(rules.policy.denied_models)
    yield "highest_tier", lambda offer: offer.tier in rules.tiers
    yield "allowed_models", lambda offer: not allowed or names(allowed, offer)
    yield "denied_models", lambda offer: not names(denied, offer)
    yield "models", lambda offer: not rules.closed(offer)
    yield "jurisdictions", lambda offer: not away(offer.provider, rules.jurisdictions)


def invalid(field: str, message: str) -> Invalid:
    return Invalid("POLICY_INVALID", message, field=f"policy.{field}")
