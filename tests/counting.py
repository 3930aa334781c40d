"""What the ledger and the holds say of each budget, counted without the SQL that decides: for laws about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

FIGURES = ("microusd", "tokens", "requests")
WIDTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30)}
FIELDS = {"user": "subject", "team": "team", "conversation": "conversation", "task": "task", "key": "key"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Level:
    """A budget for one whom it bounds, at a moment."""

    budget: str
    whose: str
    cap: Mapping[str, int | None]
    settled: Mapping[str, int]
    """In the true window, to the microsecond."""
    held: Mapping[str, int]
    counted: Mapping[str, int]
    """In the window as buckets make it: never less."""

    @property
    def key(self) -> tuple[str, str]:
        return self.budget, self.whose

    def total(self, figure: str) -> int:
        return self.settled[figure] + self.held[figure]


@dataclass(slots=True)
class Books:
    """All rows of a tenant, read in one snapshot."""

    now: datetime
    budgets: list[Row]
    holds: list[Row]
    ledger: list[Row]
    accounts: list[Row]
    spend: list[Row]

    def levels(self) -> Iterator[Level]:
        """Of each budget that rules, for each one who has used or held anything."""
        for budget in self.budgets:
            for one in self.bounded(budget):
                if budget["whose"] == one or not self.has_own(budget, one):
                    yield self.level(budget, one)

    def bounded(self, budget: Row) -> set[str]:
        if budget["whose"] != "*":
            return {budget["whose"]}
        return {row[FIELDS[budget["scope"]]] for row in (*self.holds, *self.ledger)} - {""}

    def has_own(self, budget: Row, one: str) -> bool:
        same = ("scope", "period", "tier")
        return any(b["whose"] == one and all(b[name] == budget[name] for name in same) for b in self.budgets)

    def level(self, budget: Row, one: str) -> Level:
        used = [row for row in self.ledger if row["kind"] == "settle" and falls(row, budget, one)]
        begin, first = window(budget, self.now)
        live = [row for row in self.holds if row["expire_time"] > self.now and falls(row, budget, one)]
        return Level(
            str(budget["id"]), one, cap_of(budget, self.now), sums(row for row in used if row["time"] >= begin),
            sums(live), sums(row for row in used if row["time"] >= first),
        )  # fmt: skip

    def check_counters(self) -> None:
        """What Postgres counts is what the rows add up to."""
        by_id = {budget["id"]: budget for budget in self.budgets}
        counted: dict[tuple[Any, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(FIGURES, 0))
        for row in self.spend:
            if aware(row["bucket"]) >= window(by_id[row["budget"]], self.now)[1]:
                for figure in FIGURES:
                    counted[row["budget"], row["whose"]][figure] += row[figure]
        for account in self.accounts:
            level = self.level(by_id[account["budget"]], account["whose"])
            all_held = sums(row for row in self.holds if falls(row, by_id[account["budget"]], account["whose"]))
            assert {f: account[f"held_{f}"] for f in FIGURES} == all_held, account
            assert dict(counted[account["budget"], account["whose"]]) == level.counted, account


def falls(row: Row, budget: Row, one: str) -> bool:
    if budget["tier"] not in ("", row["tier"]):
        return False
    return bool(budget["scope"] == "tenant" or row[FIELDS[budget["scope"]]] == one)


def window(budget: Row, now: datetime) -> tuple[datetime, datetime]:
    """When the true window began, and when its first bucket did."""
    period = budget["period"]
    if period == "total":
        return datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    if budget["rolling"]:
        begin, width = now - WIDTHS[period], WIDTHS[period] / 60
        return begin, EPOCH + ((begin - EPOCH) // width) * width
    begin = now.replace(minute=0, second=0, microsecond=0)
    if period != "hour":
        begin = begin.replace(hour=0)
    if period == "month":
        begin = begin.replace(day=1)
    return begin, begin


def aware(bucket: datetime) -> datetime:
    """asyncpg's -infinity has no zone."""
    return bucket if bucket.tzinfo else bucket.replace(tzinfo=UTC)


def cap_of(budget: Row, now: datetime) -> dict[str, int | None]:
    prefix = "override_" if budget["override_end_time"] and budget["override_end_time"] > now else ""
    return {figure: budget[f"{prefix}{figure}"] for figure in FIGURES}


def sums(rows: Any) -> dict[str, int]:
    total = dict.fromkeys(FIGURES, 0)
    for row in rows:
        for figure in FIGURES:
            total[figure] += row[figure]
    return total


ROWS = "SELECT * FROM soma.{} AS t WHERE tenant = $1 ORDER BY t"


async def read(conn: Any, tenant: str = "acme") -> Books:
    """As the administrator, in one snapshot."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        tables: list[list[Row]] = [
            [dict(row) for row in await conn.fetch(ROWS.format(table), tenant)]
            for table in ("budgets", "holds", "ledger", "accounts", "budget_spend")
        ]
        return Books(await conn.fetchval("SELECT clock_timestamp()"), *tables)


@dataclass(slots=True)
class Law:
    """At no instant are settled and held together above the cap. Where a cap was lowered below what was settled and
    held already, that may only become less."""

    above: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def changed(self, books: Books) -> None:
        """Budgets have just been changed by hand."""
        self.above = {(*lv.key, f): lv.total(f) for lv in books.levels() for f in FIGURES}

    def check(self, books: Books) -> None:
        for level in books.levels():
            for figure in FIGURES:
                cap = level.cap[figure]
                if cap is None:
                    continue
                total, key = level.total(figure), (*level.key, figure)
                assert total <= max(cap, self.above.get(key, 0)), f"{figure}: {total} of {cap} at {books.now}: {level}"
                self.above[key] = min(self.above.get(key, 0), total)
