"""What the trainer makes of events, and when it finds a policy better: no clock, no network, no database."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.common.learning.posterior import Posterior
from services.common.modes import ALLOWS, Mode
from services.workers.__main__ import WorkersConfig
from services.workers.trainer import facts
from services.workers.trainer.judge import BLOCK, Present, catalogue_of, in_order, judge, scale
from services.workers.trainer.samples import with_opinions
from soma.router.v1.policy_pb2 import Policy
from tests.training import EXPLORING, MODELS, PRIOR, Teller, best_is_better, body, samples, usual_is_better, words

HELD = Present(EXPLORING, Posterior(PRIOR, {}), False, frozenset({"policies/1"}))
TELLER = Teller()


def a_decision(**changed: Any) -> dict[str, Any]:
    return body(TELLER.decided(1, random.Random(1))) | changed


def test_only_some_modes_learn() -> None:
    trains = {mode for mode in Mode if ALLOWS[mode].trains}
    assert trains == {Mode.DEVELOPER, Mode.TRAINING, Mode.PRODUCTION}


def config(**told: str) -> WorkersConfig:
    needed = ("SPIFFE_ENDPOINT_SOCKET", "SOMA_ISSUER", "SOMA_JWKS_URL", "SOMA_DATABASE_URL")
    return WorkersConfig.told({**dict.fromkeys(needed, ""), "SOMA_KEYS_URL": "file:///keys", **told})


def test_a_setting_counts_before_the_mode() -> None:
    for mode in Mode:
        assert config(SOMAGENT_MODE=mode, SOMA_TRAINER="on").trains
        assert not config(SOMAGENT_MODE=mode, SOMA_TRAINER="off").trains
        assert config(SOMAGENT_MODE=mode).trains == ALLOWS[mode].trains


def test_a_decision_with_nothing_to_see_or_choose_from_teaches_nothing() -> None:
    assert facts.decided(a_decision(features="")) is None
    assert facts.decided({**a_decision(), "candidates": ""}) is None
    assert facts.decided(a_decision()) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": "0.1 nan"},
        {"features": "0.1 much"},
        {"features": "0.1 1e300"},
        {"features": "0.1  0.2"},
        {"features": words([0.0] * 1001)},
        {"candidates": "acme/best"},
        {"candidates": "acme/best acme/best"},
        {"candidates": "acme/other acme/another"},
        {"probabilities": "0.9 0.2"},
        {"probabilities": "1.0 0.0"},
        {"probabilities": "-0.5 1.5"},
        {"propensity": "0.123"},
        {"propensity": "0.0"},
        {"qualities": "0.5 1.5"},
        {"catalogue": "0.5"},
        {"costs": "1 -1"},
        {"latencies": "inf 1"},
    ],
)
def test_a_decision_that_no_router_takes_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some are of Python itself
        facts.decided(a_decision(**wrong))


@pytest.mark.parametrize("score", ["", "1.5", "-0.1", "nan", "inf", "good"])
def test_a_score_that_is_none_is_refused(score: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some are of Python itself
        facts.opinion(a_decision(feedback=score))


def test_of_each_source_the_last_word_counts_in_whatever_order_and_however_often_it_comes() -> None:
    given = [
        facts.Opinion("person", "2026-01-01 a", 0.0),
        facts.Opinion("person", "2026-01-02 b", 1.0),
        facts.Opinion("judge", "2026-01-01 c", 0.5),
    ]
    for order in itertools.permutations([*given, *given], 6):
        said = with_opinions(with_opinions({}, order[:3]), order[3:])
        assert said == {"person": ["2026-01-02 b", 1.0], "judge": ["2026-01-01 c", 0.5]}
        assert facts.score_of(said) == 0.75


def test_a_policy_that_feedback_speaks_for_is_better_and_its_note_says_by_how_much() -> None:
    verdict = judge(PRIOR, samples(TELLER, 400, usual_is_better), HELD)
    assert verdict.why == ""
    assert verdict.gain and verdict.new and verdict.present
    assert 0 < verdict.gain.low < verdict.gain.value < verdict.gain.high
    for way in ("ips", "snips", "dr"):
        new, present = getattr(verdict.new, way), getattr(verdict.present, way)
        assert new.low <= new.value <= new.high
        assert new.value > present.value
    assert len(verdict.note) <= 500
    assert f"{verdict.gain.low:.3f}" in verdict.note
    view = verdict.learned.view(MODELS)
    best, usual = view.predict(PRIOR.features.of("Question 3: what is 3 + 3?"))
    assert usual > 0.8 > 0.2 > best


def test_a_policy_that_is_as_good_or_worse_is_not_better() -> None:
    known = judge(PRIOR, samples(TELLER, 300, best_is_better), HELD).learned
    taught = replace(HELD, posterior=known, is_learned=True)
    assert judge(PRIOR, samples(TELLER, 400, best_is_better), taught).why == "not better"
    turned = [*samples(TELLER, 300, usual_is_better), *samples(TELLER, 300, best_is_better, first=300)]
    assert judge(PRIOR, turned, taught).why == "not better"


@pytest.mark.parametrize("seed", range(5))
def test_where_models_are_alike_nothing_is_switched_on(seed: int) -> None:
    luck = random.Random(seed + 100)
    even = samples(TELLER, 400, lambda n, model: float(luck.random() < 0.7), seed)
    verdict = judge(PRIOR, even, HELD)
    assert verdict.why == "not better"
    assert verdict.gain and verdict.gain.low < 0 < verdict.gain.high


def test_few_decisions_are_too_few() -> None:
    assert judge(PRIOR, samples(TELLER, 190, usual_is_better), HELD).why == "too few"
    assert judge(PRIOR, [], HELD).why == "too few"


def test_without_exploration_nothing_can_be_judged_by() -> None:
    blind = Teller(Policy(dial=1.0, most_explored=0.0))
    assert judge(PRIOR, samples(blind, 400, usual_is_better), HELD).why == "too few"


def test_what_was_hardly_tried_is_no_ground_to_switch() -> None:
    rare = Teller(Policy(dial=1.0, most_explored=0.05))
    held = replace(HELD, policy=rare.policy)
    assert judge(PRIOR, samples(rare, 400, usual_is_better), held).why == "no overlap"


def test_decisions_of_another_policy_or_before_the_time_are_learned_from_and_not_judged_by() -> None:
    known = samples(TELLER, 400, usual_is_better)
    for held in (
        replace(HELD, versions=frozenset({"policies/2"})),
        replace(HELD, since=known[-1].decided_time),
    ):
        verdict = judge(PRIOR, known, held)
        assert (verdict.why, verdict.judged, verdict.samples) == ("too few", 0, 400)
        assert verdict.learned.of["acme/usual"].count > 10
    later = replace(HELD, since=known[0].decided_time - timedelta(seconds=1))
    assert judge(PRIOR, known, later).why == ""


def test_a_model_that_took_over_is_learned_of_and_its_answer_is_not_judged_by() -> None:
    known = samples(TELLER, 400, usual_is_better)
    fallen = [replace(one, answered="globex/other") for one in known]
    verdict = judge(PRIOR, fallen, HELD)
    assert (verdict.why, verdict.judged) == ("too few", 0)
    assert set(verdict.learned.of) == {"globex/other"}


def test_the_present_policy_is_weighed_with_the_probabilities_that_it_logged() -> None:
    events = list(TELLER.told(20, usual_is_better))
    known = samples(TELLER, 20, usual_is_better)
    now = scale(EXPLORING, Posterior(PRIOR, {}), catalogue_of(known), is_learned=False)
    for told, one in zip(events, known, strict=True):
        assert now.chances(one) == pytest.approx(facts.numbers(body(told[0]), "probabilities", 0, 1), abs=1e-9)


def test_no_decision_is_judged_by_what_was_learned_from_it_or_later_ones() -> None:
    known = samples(TELLER, 200, usual_is_better)
    judged = frozenset(one.decision for one in known[100:])
    learned, logged = in_order(PRIOR, known, HELD, judged)
    turned = [*known[:-BLOCK], *(replace(one, score=1 - one.score) for one in known[-BLOCK:])]
    otherwise, as_well = in_order(PRIOR, turned, HELD, judged)
    assert len(logged) == len(as_well) == 100
    assert [(one.new, one.expected) for one in logged] == [(one.new, one.expected) for one in as_well]
    assert [one.reward for one in logged] != [one.reward for one in as_well]
    assert learned.to_bytes() != otherwise.to_bytes()
    assert logged[0].expected != logged[-1].expected, "later ones are judged by more"


def test_the_same_samples_teach_the_same_bytes() -> None:
    known = samples(TELLER, 220, usual_is_better)
    one, other = (judge(PRIOR, known, HELD).learned.to_bytes() for _ in range(2))
    assert one == other
