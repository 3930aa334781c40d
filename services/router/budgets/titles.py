"""What is left of budgets: from what Postgres says to words for people. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.router.budgets.room import Left, Room

SCOPES = ("task", "conversation", "key", "user", "team", "tenant")
"""The narrowest first."""
PERIODS = ("hour", "day", "month", "total")
ROLLING = {"hour": "the last hour", "day": "the last 24 hours", "month": "the last 30 days"}


class Bound(msgspec.Struct):
    """An object of soma.room_over."""

    budget: str
    scope: str
    whose: str
    period: str
    rolling: bool
    tier: str
    microusd: int | None
    tokens: int | None
    requests: int | None
    renews: datetime | None


BOUNDS = msgspec.json.Decoder(list[Bound])


def room_of(json: str) -> Room:
    """The narrowest first, the shortest window first."""
    return [left_of(bound) for bound in sorted(BOUNDS.decode(json), key=breadth)]


def breadth(bound: Bound) -> tuple[int, int, str]:
    return SCOPES.index(bound.scope), PERIODS.index(bound.period), bound.tier


def left_of(bound: Bound) -> Left:
    return Left(
        f"budgets/{bound.budget}", title_of(bound), bound.tier, bound.microusd, bound.tokens, bound.requests,
        bound.renews,
    )  # fmt: skip


def title_of(bound: Bound) -> str:
    whose = "the tenant" if bound.scope == "tenant" else f"{bound.scope} {bound.whose}"
    if bound.period == "total":
        return f"the budget of {whose} in total"
    return f"the budget of {whose} for {ROLLING[bound.period] if bound.rolling else f'this {bound.period}'}"
