"""What a policy would have been worth, from decisions of another: held against the truth of a made-up world."""

from __future__ import annotations

import random

import pytest

from services.common.learning.ope import Logged, effective, estimates, gain, is_better

TRUTH = (0.3, 0.7)
LOGGING = (0.8, 0.2)


def logged(n: int, seed: int, new: tuple[float, float], expected: tuple[float, float] = (0.0, 0.0)) -> list[Logged]:
    """Decisions of a logging policy that mostly takes the worse of two."""
    draws, made = random.Random(seed), []
    for _ in range(n):
        chosen = int(draws.random() >= LOGGING[0])
        reward = float(draws.random() < TRUTH[chosen])
        made.append(Logged(chosen, LOGGING[chosen], reward, new, LOGGING, expected))
    return made


@pytest.mark.parametrize("expected", [(0.0, 0.0), (0.3, 0.7), (1.0, 0.0)])
def test_the_interval_of_each_estimate_holds_the_truth_as_often_as_it_says(expected: tuple[float, float]) -> None:
    new, runs = (0.1, 0.9), 100
    truth = sum(p * value for p, value in zip(new, TRUTH, strict=True))
    held = {"ips": 0, "snips": 0, "dr": 0}
    for seed in range(runs):
        found = estimates(logged(400, seed, new, expected))
        for name in held:
            one = getattr(found, name)
            held[name] += one.low <= truth <= one.high
    assert all(count >= 0.90 * runs for count in held.values()), held


def test_dr_with_a_good_expectation_is_narrower_than_ips() -> None:
    found = estimates(logged(1000, 1, (0.1, 0.9), TRUTH))
    assert found.dr.high - found.dr.low < 0.8 * (found.ips.high - found.ips.low)


def test_a_better_policy_is_called_better_and_the_same_or_a_worse_one_never() -> None:
    assert all(is_better(logged(1000, seed, (0.1, 0.9), TRUTH)) for seed in range(20))
    assert not any(is_better(logged(1000, seed, LOGGING, TRUTH)) for seed in range(20))
    assert not any(is_better(logged(1000, seed, (0.95, 0.05), TRUTH)) for seed in range(20))


def test_a_policy_that_is_no_better_is_seldom_called_better() -> None:
    """The arms are alike: a lower bound that holds 97.5 % of the time lets few through."""
    calls = 0
    for seed in range(100):
        draws = random.Random(seed)
        rows = [
            Logged(c, LOGGING[c], float(draws.random() < 0.5), (0.2, 0.8), LOGGING, (0.5, 0.5))
            for c in (int(draws.random() >= LOGGING[0]) for _ in range(300))
        ]
        calls += is_better(rows)
    assert calls <= 7


def test_few_decisions_or_few_that_the_new_policy_would_have_taken_prove_nothing() -> None:
    good = [Logged(1, 0.5, 1.0, (0.0, 1.0), (1.0, 0.0), (0.0, 0.0))]
    assert not is_better(good * 99)
    seldom = [Logged(0, 0.99, 0.0, (0.0, 1.0), (0.99, 0.01), (0.0, 0.0))] * 990
    assert not is_better(seldom + [Logged(1, 0.01, 1.0, (0.0, 1.0), (0.99, 0.01), (0.0, 0.0))] * 10)


def test_the_gain_over_oneself_is_exactly_nothing() -> None:
    found = gain(logged(200, 3, LOGGING))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_an_impossible_propensity_is_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity"):
        estimates([Logged(0, propensity, 1.0, (1.0,), (1.0,), (0.0,))])


def test_nothing_logged_gives_no_estimate() -> None:
    assert not is_better([])
    with pytest.raises(ValueError, match="no decisions"):
        estimates([])


def test_equal_weights_count_fully() -> None:
    import numpy as np

    assert effective(np.full(10, 3.0)) == pytest.approx(10)
    assert effective(np.zeros(10)) == 0
