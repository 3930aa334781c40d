"""What was counted of a model's calls, and what it says. Pure.

Times fall into buckets that grow by the eighth root of two (9 %), from 1 ms to 17 minutes: the counts of many routers
add up, and a percentile is known to within one bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, log2
from typing import Annotated, TypeAlias

import msgspec

BUCKETS_AN_OCTAVE = 8
LAST_BUCKET = 20 * BUCKETS_AN_OCTAVE
MOST = 10**12
"""Of anything in one answer: what is said to be more is counted as this much."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Bucket = Annotated[int, msgspec.Meta(ge=0, le=LAST_BUCKET)]
Histogram: TypeAlias = dict[Bucket, Count]
"""How many times fell into each bucket; those without any have no entry."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an answer ended, for the figures of the model that gave it."""

    first_token_ms: int
    total_ms: int
    """Both from one moment on; 0 where there was none."""
    output_tokens: int
    cost_microusd: int
    ok: bool
    """It is whole. Else only its cost counts here: its failure was counted by the circuit."""


class Tally(msgspec.Struct, array_like=True):
    """Counts of some seconds. Its fields stand on the wire in this order."""

    worked: Count = 0
    failed: Count = 0
    limited: Count = 0
    """Calls that the provider wants to have later: 429."""
    tokens: Count = 0
    """Of whole answers, with the time that it took to say them."""
    speaking_ms: Count = 0
    spend_microusd: Count = 0
    first: Histogram = {}
    """Times to the first text."""
    whole: Histogram = {}
    """Times of whole answers."""

    def ended(self, ended: Ended) -> None:
        self.spend_microusd += bounded(ended.cost_microusd)
        if ended.ok:
            count(self.whole, bucket_of(ended.total_ms))
            speaking_ms = ended.total_ms - ended.first_token_ms
            if ended.first_token_ms > 0 and speaking_ms > 0:
                self.tokens += bounded(ended.output_tokens)
                self.speaking_ms += bounded(speaking_ms)

    def add(self, other: Tally) -> None:
        self.worked += other.worked
        self.failed += other.failed
        self.limited += other.limited
        self.tokens += other.tokens
        self.speaking_ms += other.speaking_ms
        self.spend_microusd += other.spend_microusd
        add_to(self.first, other.first)
        add_to(self.whole, other.whole)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model has been doing within the window, over all routers that are heard. None: nothing was measured."""

    calls: int
    """That worked or failed. One that its caller gave up is neither."""
    failed: int
    limited: int
    error_rate: float
    first_p50_ms: int | None
    first_p95_ms: int | None
    whole_p50_ms: int | None
    whole_p95_ms: int | None
    tokens_per_s: float | None
    """From the first text to the end."""
    spend_microusd: int


def standing_of(tally: Tally) -> Standing:
    calls = tally.worked + tally.failed
    return Standing(
        calls=calls,
        failed=tally.failed,
        limited=tally.limited,
        error_rate=tally.failed / calls if calls else 0.0,
        first_p50_ms=percentile(tally.first, 0.50),
        first_p95_ms=percentile(tally.first, 0.95),
        whole_p50_ms=percentile(tally.whole, 0.50),
        whole_p95_ms=percentile(tally.whole, 0.95),
        tokens_per_s=tally.tokens * 1000 / tally.speaking_ms if tally.speaking_ms else None,
        spend_microusd=tally.spend_microusd,
    )


def sum_of(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def bucket_of(ms: float) -> int:
    """The first bucket that ends at that time or later."""
    return min(LAST_BUCKET, ceil(BUCKETS_AN_OCTAVE * log2(ms))) if ms > 1 else 0


def middle_ms(bucket: int) -> int:
    """The time in the middle of a bucket, by ratio."""
    return round(2 ** ((bucket - 0.5) / BUCKETS_AN_OCTAVE)) if bucket else 1


def percentile(times: Mapping[int, int], share: float) -> int | None:
    """The time that this share of all does not exceed (nearest rank), as its bucket's middle; None without any."""
    rank = max(1, ceil(share * sum(times.values())))
    for bucket in sorted(times):
        rank -= times[bucket]
        if rank <= 0:
            return middle_ms(bucket)
    return None


def count(times: Histogram, bucket: int) -> None:
    times[bucket] = times.get(bucket, 0) + 1


def add_to(times: Histogram, others: Mapping[int, int]) -> None:
    for bucket, number in others.items():
        times[bucket] = times.get(bucket, 0) + number


def bounded(number: int) -> int:
    return min(max(number, 0), MOST)
