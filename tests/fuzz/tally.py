"""The figures of a run: cases tried, answers and refusals by reason, a line for each method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tally:
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """By method: how often which reason was given, "OK" for an answer."""
    slowest_s: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def count(self, method: object, reason: str, took_s: float = 0.0) -> None:
        self.counts.setdefault(str(method), Counter())[reason] += 1
        self.slowest_s[str(method)] = max(took_s, self.slowest_s.get(str(method), 0.0))

    def lines(self) -> Iterator[str]:
        for method, counts in self.counts.items():
            yield line(method, counts, self.slowest_s[method])

    def total(self) -> str:
        return line("all", sum(self.counts.values(), Counter()), max(self.slowest_s.values(), default=0.0))


def line(what: str, counts: Counter[str], slowest_s: float) -> str:
    told = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    return f"{what:28} {counts.total():6}  {slowest_s:5.2f} s  {told}"
