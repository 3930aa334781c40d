"""What counts for which SLO, when one is met, and how fast its budget burns; and that alerts speak of what there is."""

from __future__ import annotations

import itertools
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.workers.slo.sla import standings
from services.workers.slo.slo import BOUNDS_MS, SLOS, Seen, Share, Slo, Standing, bucket, share

ASKED = datetime(2026, 11, 22, 21, 59, 59, tzinfo=UTC)
HOUR = ASKED.replace(minute=0, second=0)
BY_NAME = {slo.name: slo for slo in SLOS}
ALERTS = Path(__file__).parents[2] / "mesh/otel/alerts.yaml"


def after(seconds: float) -> datetime:
    return ASKED + timedelta(seconds=seconds)


FACTS = (
    Seen(asked=ASKED),
    Seen(decided=after(0.2)),
    Seen(first_token_ms=800),
    Seen(ended=after(3), outcome="answered"),
)


@pytest.mark.parametrize("facts", [*itertools.permutations(FACTS)])
def test_a_turn_counts_the_same_in_whatever_order_and_however_often_its_events_come(facts: tuple[Seen, ...]) -> None:
    seen = Seen()
    for fact in (*facts, *facts[:2]):
        seen = seen | fact
    assert seen.counts == {(HOUR, "turns", "answered"), (HOUR, "answer_ms", "5000"), (HOUR, "first_token_ms", "1000")}


def test_a_turn_that_runs_or_was_never_asked_counts_for_nothing() -> None:
    assert Seen(asked=ASKED).counts == set()
    assert (Seen(ended=ASKED, outcome="failed") | Seen(decided=ASKED, first_token_ms=1)).counts == set()


def test_a_failed_turn_has_no_time_of_answer() -> None:
    assert (Seen(asked=ASKED) | Seen(ended=after(1), outcome="failed")).counts == {(HOUR, "turns", "failed")}


@pytest.mark.parametrize(
    ("ms", "name"), [(-5, "50"), (50, "50"), (50.1, "100"), (2500, "2500"), (2500.1, "5000"), (60_000.1, "inf")]
)
def test_a_time_is_in_the_first_bucket_that_holds_it(ms: float, name: str) -> None:
    assert bucket(timedelta(milliseconds=ms)) == name


def test_a_p95_of_two_and_a_half_seconds_is_95_percent_up_to_there() -> None:
    slo = BY_NAME["chat_latency"]
    assert share(slo, {"50": 90, "2500": 5, "5000": 4, "inf": 1}) == Share(95, 5)
    assert slo.good | slo.bad == {*map(str, BOUNDS_MS), "inf"}


def standing(slo: Slo, **shares: Share) -> Standing:
    return Standing(slo, {window.lstrip("_"): share for window, share in shares.items()})


def test_an_slo_is_met_up_to_its_objective_and_not_below() -> None:
    assert standing(BY_NAME["availability"], _30d=Share(999, 1)).is_met
    assert not standing(BY_NAME["availability"], _30d=Share(998, 2)).is_met
    assert Standing(BY_NAME["availability"]).is_met, "of nothing"


def test_a_burn_of_one_spends_the_budget_in_its_time() -> None:
    stands = standing(BY_NAME["availability"], _1h=Share(9856, 144), _30d=Share(999, 1))
    assert stands.burn("1h") == pytest.approx(14.4)
    assert stands.burn("30d") == pytest.approx(1)
    assert stands.burn("24h") == 0


def test_where_nothing_may_be_lost_one_loss_is_an_alert() -> None:
    stands = standing(BY_NAME["audit_delivery"], _1h=Share(3, 1), _24h=Share(4, 0), _30d=Share(10**9, 1))
    assert stands.burn("1h") == math.inf
    assert not stands.is_met
    assert stands.alerts == ["1h", "30d"]


def test_a_few_turns_alone_raise_no_alert() -> None:
    slo = BY_NAME["availability"]
    few = standing(slo, _1h=Share(0, 19), _30d=Share(0, 19))
    assert (few.alerts, few.is_met, few.burn("1h")) == ([], True, 0)
    assert standing(slo, _1h=Share(0, 20)).alerts == ["1h"]


def test_tenants_stand_for_themselves_and_together_for_the_mesh() -> None:
    rows: list[Any] = [
        ("acme", "turns", "answered", None, 30, 900),
        ("acme", "turns", "failed", None, None, 100),
        ("globex", "turns", "cancelled", 9000, 9000, 9000),
    ]
    found = standings(rows)
    assert [found[tenant][0].is_met for tenant in ("acme", "globex")] == [False, True]
    assert found["acme"][0].shares == {"1h": Share(), "24h": Share(30, 0), "30d": Share(900, 100)}
    assert (found["acme"][0] + found["globex"][0]).ratio == pytest.approx(0.99)


def exported() -> set[str]:
    registry = CollectorRegistry()
    Sight(Tracer(0.0), registry)
    names = set()
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {f"{family.name}{suffix}" for suffix in suffixes}
    return names


def test_alerts_speak_of_metrics_that_are_exported() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"\bsoma_[a-z_]+", rule["expr"])}
    assert named <= exported()
    for must in (
        "soma_relay_lag",
        "soma_consumer_lag",
        "soma_consumer_dead",
        "soma_audit_head",
        "soma_archive_age",
        "soma_slo_burn",
    ):
        assert any(name.startswith(must) for name in named), must
    assert all(rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"] for rule in rules)
