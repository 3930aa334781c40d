"""The service level objectives: what of a turn counts for which, when one is met, how fast its budget burns. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

BOUNDS_MS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)
TURNS, FIRST_TOKEN, ANSWER, AUDIT = "turns", "first_token_ms", "answer_ms", "audit"
IN_TIME, LATE, SEALED, UNSEALED = "in_time", "late", "sealed", "unsealed"
SOON = timedelta(seconds=5)
"""No audit event should take longer from its own time into the log."""

WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "30d": timedelta(days=30)}
TOO_FAST = {"1h": 14.4, "24h": 3.0, "30d": 1.0}
"""How many times faster than it lasts for a month a budget may burn: 2 % of it in an hour, 10 % in a day, all of it in
a month (The Site Reliability Workbook, chapter 5)."""
FEW = 20
"""A window with fewer events tells nothing of a share."""

Cell: TypeAlias = tuple[datetime, str, str]
"""An hour, a measure and a bucket."""
Buckets: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Slo:
    name: str
    objective: float
    """The share that has to be good."""
    measure: str
    good: frozenset[str]
    bad: frozenset[str]


def up_to(bound_ms: int) -> frozenset[str]:
    return frozenset(str(bound) for bound in BOUNDS_MS if bound <= bound_ms)


def above(bound_ms: int) -> frozenset[str]:
    return frozenset(str(bound) for bound in BOUNDS_MS if bound > bound_ms) | {"inf"}


SLOS = (
    Slo("availability", 0.999, TURNS, frozenset({"answered", "cancelled"}), frozenset({"failed"})),
    Slo("chat_latency", 0.95, FIRST_TOKEN, up_to(2_500), above(2_500)),
    Slo("audit_delivery", 1.0, AUDIT, frozenset({SEALED}), frozenset({UNSEALED})),
    Slo("audit_delay", 0.99, AUDIT, frozenset({IN_TIME}), frozenset({LATE})),
)
"""A p95 below a bound is 95 % up to it. The last is ours, not the blueprint's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What events have said of a turn, in whatever order and however often."""

    asked: datetime | None = None
    decided: datetime | None = None
    first_token_ms: int | None = None
    """From the decision on."""
    ended: datetime | None = None
    outcome: str | None = None

    def __or__(self, other: Seen) -> Seen:
        """Both: the earliest of each, and the end that came first."""
        first = min((seen for seen in (self, other) if seen.ended and seen.outcome), key=end_of, default=Seen())
        return Seen(
            earliest(self.asked, other.asked),
            earliest(self.decided, other.decided),
            min((ms for ms in (self.first_token_ms, other.first_token_ms) if ms is not None), default=None),
            first.ended,
            first.outcome,
        )

    @property
    def counts(self) -> frozenset[Cell]:
        """Where the turn counts, by what is known of it: in the hour in which it was asked."""
        if self.asked is None:
            return frozenset()
        found = set[tuple[str, str]]()
        if self.outcome and self.ended:
            found.add((TURNS, self.outcome))
            if self.outcome == "answered":
                found.add((ANSWER, bucket(self.ended - self.asked)))
        if self.decided and self.first_token_ms is not None:
            waited = self.decided - self.asked + timedelta(milliseconds=self.first_token_ms)
            found.add((FIRST_TOKEN, bucket(waited)))
        return frozenset((hour(self.asked), measure, name) for measure, name in found)


def end_of(seen: Seen) -> tuple[object, ...]:
    return seen.ended, seen.outcome


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((time for time in (one, other) if time is not None), default=None)


def bucket(took: timedelta) -> str:
    ms = took / timedelta(milliseconds=1)
    return next((str(bound) for bound in BOUNDS_MS if ms <= bound), "inf")


def hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of something was good."""

    good: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        return self.good + self.bad

    @property
    def ratio(self) -> float:
        """Of nothing, nothing was bad."""
        return self.good / self.total if self.total else 1.0

    def __add__(self, other: Share) -> Share:
        return Share(self.good + other.good, self.bad + other.bad)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an SLO stands, in each window up to now."""

    slo: Slo
    shares: Mapping[str, Share] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self._share("30d").ratio

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.slo.objective or not self._tells("30d")

    def burn(self, window: str) -> float:
        """What is bad, in shares of what may be: 1 spends the budget of 30 days in 30 days. 0 while there are too few
        events to say."""
        if not self._tells(window):
            return 0.0
        bad, budget = 1 - self._share(window).ratio, 1 - self.slo.objective
        if budget > 0:
            return bad / budget
        return math.inf if bad else 0.0

    @property
    def alerts(self) -> Sequence[str]:
        """The windows in which it burns too fast."""
        return [window for window, most in TOO_FAST.items() if self.burn(window) > most]

    def _tells(self, window: str) -> bool:
        """Where nothing may be bad, one event is enough to say so."""
        return self.slo.objective >= 1 or self._share(window).total >= FEW

    def _share(self, window: str) -> Share:
        return self.shares.get(window, Share())

    def __add__(self, other: Standing) -> Standing:
        return Standing(self.slo, {window: self._share(window) + other._share(window) for window in WINDOWS})


def share(slo: Slo, buckets: Buckets) -> Share:
    """Of one measure's buckets."""
    return Share(sum(buckets.get(name, 0) for name in slo.good), sum(buckets.get(name, 0) for name in slo.bad))
