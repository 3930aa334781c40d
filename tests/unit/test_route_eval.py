"""`soma route`: rows, the figures that are said of them, and the words of the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from services.local.commands import route
from services.local.fault import Fault
from services.router.evaluate import curve
from services.router.evaluate.picture import picture
from services.router.evaluate.report import Evaluation, Report, Unfit, folded
from services.router.evaluate.rows import Unreadable, rows_of, unseen

SHIPPED = Path(__file__).parents[2] / "services/common/learning/prior.bin"
MMLU = Path(__file__).parents[3] / "shared/data/routing_mmlu_1500.jsonl"


def lines(n: int, seed: int = 0, costs: bool = True) -> list[str]:
    """Sums are for the big model alone; greetings for both."""
    draws, made = random.Random(seed), []
    for i in range(n):
        hard = draws.random() < 0.5
        prompt = (
            f"What is {seed}{i} + 7 * {i}?" if hard else f"Say hello to person {'abcdefghij'[i % 10] * (i + 1 + seed)}."
        )
        small = {"score": float(not hard)} | ({"cost_usd": 0.001, "latency_s": 0.2} if costs else {})
        big = {"score": 1.0} | ({"cost_usd": 0.05, "latency_s": 1.0} if costs else {})
        made.append(json.dumps({"prompt": prompt, "task": "", "outcomes": {"small": small, "big": big}}))
    return made


def report(costs: bool = True, budget_usd: float | None = None) -> Report:
    train, test = (rows_of(lines(n, seed, costs), "rows") for n, seed in ((200, 1), (60, 2)))
    return Evaluation(None, None, budget_usd).on(train, test)


def test_a_row_is_read_in_either_shape() -> None:
    (row,) = rows_of(['{"prompt": "Hi", "weak": false, "strong": true, "subject": "x"}', "", " "], "f")
    assert {m: o.score for m, o in row.outcomes.items()} == {"weak": 0, "strong": 1}
    (row,) = rows_of(['{"prompt": "Hi", "task": "t", "outcomes": {"a": {"score": 0.5, "cost_usd": 2}}}'], "f")
    assert (row.task, row.outcomes["a"].cost_usd, row.outcomes["a"].latency_s) == ("t", 2.0, None)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"outcomes": {"a": {"score": 1}}}', "prompt"),
        ('{"prompt": 3, "weak": true, "strong": true}', "prompt"),
        ('{"prompt": "x", "task": 3, "weak": true, "strong": true}', "task"),
        ('{"prompt": "x"}', "outcomes"),
        ('{"prompt": "x", "weak": true}', "outcomes"),
        ('{"prompt": "x", "weak": 1, "strong": true}', "weak"),
        ('{"prompt": "x", "outcomes": {}}', "outcomes"),
        ('{"prompt": "x", "outcomes": {"a": 1}}', "outcomes.a"),
        ('{"prompt": "x", "outcomes": {"a": {}}}', "outcomes.a.score"),
        ('{"prompt": "x", "outcomes": {"a": {"score": 2}}}', "outcomes.a.score"),
        ('{"prompt": "x", "outcomes": {"a": {"score": NaN}}}', "outcomes.a.score"),
        ('{"prompt": "x", "outcomes": {"a": {"score": true}}}', "outcomes.a.score"),
        ('{"prompt": "x", "outcomes": {"a": {"score": 1, "cost_usd": -1}}}', "outcomes.a.cost_usd"),
        ('{"prompt": "x", "outcomes": {"a": {"score": 1, "latency_s": "1"}}}', "outcomes.a.latency_s"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_and_field(line: str, field: str) -> None:
    good = '{"prompt": "x", "weak": true, "strong": true}'
    with pytest.raises(Unreadable, match=r"rows\.jsonl, line 2") as refused:
        rows_of([good, line], "rows.jsonl")
    assert field in str(refused.value)


def test_a_prompt_of_the_training_is_no_test_however_it_is_spaced() -> None:
    rows = [rows_of([json.dumps({"prompt": p, "weak": True, "strong": True})], "f")[0] for p in ("A b", "a  B\n", "c")]
    assert [row.prompt for row in unseen(rows[:1], rows)] == ["c"]


def test_equal_prompts_are_in_the_same_fold() -> None:
    prompts = [f"p {n % 40}" for n in range(200)]
    place = folded(prompts, seed=3)
    assert len({(p, f) for p, f in zip(prompts, place, strict=True)}) == 40
    assert {place.count(fold) for fold in range(5)} == {40}


def test_apgr_is_one_half_blindly_and_more_when_the_right_calls_come_first() -> None:
    weak, strong = [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    blind = curve.recovered([0.0] * 4, weak, strong)
    right = curve.recovered([4, 2, 3, 1], weak, strong)
    wrong = curve.recovered([1, 3, 2, 4], weak, strong)
    assert blind and right and wrong
    assert curve.apgr(blind) == pytest.approx(0.5)
    assert right == [0, 0.5, 1, 1, 1]
    assert curve.apgr(right) == pytest.approx(0.75)
    assert curve.apgr(wrong) == pytest.approx(0.25)
    assert (curve.cpt(right, 0.5), curve.cpt(right, 0.8), curve.cpt(blind, 0.8)) == (0.25, 0.5, 1.0)


def test_without_a_gap_nothing_can_be_recovered() -> None:
    assert curve.recovered([1, 2], [1.0, 0.0], [0.0, 1.0]) is None


def test_ours_learns_which_prompts_need_the_big_model() -> None:
    found = report()
    best = max(one.accuracy for _, one in found.along)
    assert found.apgr and found.apgr > 0.7
    assert found.models["small"].accuracy < found.random.accuracy < best <= found.oracle.accuracy == 1.0
    costs = [one.cost_usd or 0 for _, one in found.along]
    assert costs == sorted(costs), "the dial goes from cheap to good"
    assert any(
        one.accuracy == 1.0 and (one.cost_usd or 9) < 0.75 * (found.models["big"].cost_usd or 0)
        for _, one in found.along
    )


def test_a_budget_is_kept_by_what_calls_are_expected_to_cost() -> None:
    free, spare = report(), report(budget_usd=0.5)
    assert spare.ours.cost_usd is not None and spare.ours.cost_usd <= 0.5
    assert free.oracle.cost_usd and spare.ours.accuracy <= free.oracle.accuracy
    with pytest.raises(Unfit, match="budget"):
        report(budget_usd=0.0001)


def test_folds_cost_what_all_rows_cost_and_say_one_line_each() -> None:
    rows, heard = rows_of(lines(100, 1), "rows"), list[str]()
    whole = Evaluation(None, None, 4.0).folds(rows, say=heard.append)
    assert whole.models["big"].cost_usd == pytest.approx(0.05 * len(rows))
    assert whole.ours.cost_usd is not None
    assert 1.0 < whole.ours.cost_usd < 5.0
    assert len(heard) == 5


def test_the_json_has_the_keys_that_were_promised() -> None:
    facts: dict[str, Any] = json.loads(json.dumps(report().facts(), allow_nan=False))
    keys = ["models", "ours", "random", "oracle", "apgr", "cpt50", "cpt80", "decision_ms", "bandit"]
    assert list(facts) == keys
    for one in (*facts["models"].values(), facts["ours"], facts["random"], facts["oracle"]):
        assert {"accuracy", "cost_usd"} <= set(one)
    assert set(facts["decision_ms"]) == {"p50", "p95"}
    assert len(facts["bandit"]["optimal_share"]) == 10


def test_more_than_two_models_have_no_apgr_but_all_else() -> None:
    rows = []
    for line in lines(150):
        row = json.loads(line)
        row["outcomes"]["third"] = {"score": 0.5, "cost_usd": 0.01}
        rows.append(json.dumps(row))
    found = Evaluation(None, None).folds(rows_of(rows, "f"))
    assert (found.apgr, found.cpt50, found.curve) == (None, None, ())
    assert set(found.models) == {"small", "big", "third"}
    ElementTree.fromstring(picture(found))


@pytest.mark.parametrize("costs", [True, False])
def test_the_picture_is_xml_whatever_is_known(costs: bool) -> None:
    assert ElementTree.fromstring(picture(report(costs))).tag.endswith("svg")


def test_too_little_is_refused_with_a_sentence() -> None:
    rows = rows_of(lines(60), "f")
    with pytest.raises(Unfit, match="20 examples"):
        Evaluation(None, None).on(rows[:10], rows[10:])
    with pytest.raises(Unfit, match="No row is left"):
        Evaluation(None, None).on(rows, [])


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text("\n")
    for name, word in (("none", "cannot be read"), ("bytes", "UTF-8"), ("empty", "no rows")):
        with pytest.raises(Fault, match=word):
            route.read([tmp_path / name])


def test_the_shipped_prior_can_be_read_and_knows_a_weak_and_a_strong_model() -> None:
    from services.common.learning.prior import prior_of

    prior = prior_of(SHIPPED.read_bytes())
    assert SHIPPED.stat().st_size < 1_000_000
    assert prior.known["weak"].quality < prior.known["strong"].quality


def test_five_folds_of_mmlu_recover_more_than_half_of_the_gap_by_signals_alone() -> None:
    if not MMLU.is_file():
        pytest.skip(f"{MMLU} is missing")
    found = Evaluation(None, None).folds(route.read([MMLU]))
    assert found.apgr and found.apgr > 0.58
    assert found.models["weak"].accuracy == pytest.approx(0.659, abs=0.01)
