"""What is learned: features, the prior, each tenant's posterior, and their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from services.common.learning.choose import MOST_EXPLORED, SHARPNESS, Weights, weights_of
from services.common.learning.gist import BEGINNING, END, gist
from services.common.learning.posterior import Outcome, Posterior, posterior_of
from services.common.learning.prior import Example, Prior, prior_of, train
from services.common.learning.signals import COUNT, signals
from services.router.evaluate.simulate import Step, Trace, simulate

N = 160


def a_prior(seed: int = 0) -> Prior:
    """Of two models: the strong one is always good, the weak one where the embedding's first number is above 0."""
    draws = np.random.default_rng(seed)
    vectors = draws.normal(size=(N, 384)) / 384**0.5
    vectors[:, 0] *= 10
    examples = [
        Example(f"Prompt {n}", "", {"strong": 0.9, "weak": float(vector[0] > 0)}) for n, vector in enumerate(vectors)
    ]
    return train(examples, vectors)


PRIOR = a_prior()


def embedding(first: float) -> list[float]:
    return [first, *[0.0] * 383]


def outcomes(model: str, score: float, times: int = 1, quality: float = 0.5) -> list[Outcome]:
    return [Outcome(PRIOR.features.of("Hello", embedding(0.1)), model, score, quality)] * times


def test_a_text_has_the_same_few_signals_whatever_it_holds() -> None:
    for text in ("", "a", "日本語 " * 1000, "\0\ud800", "def f():\n  return 1;", "x" * 1_000_000):
        found = signals(text)
        assert len(found) == COUNT
        assert all(0 <= number <= 2 for number in found)


def test_features_are_few_and_short_and_are_there_without_an_embedding() -> None:
    for vector in (embedding(0.5), None):
        found = PRIOR.features.of("What is 2 + 2?", vector, "maths")
        assert len(found) == PRIOR.features.size <= 64
        assert all(number == round(number, 4) for number in found)


@pytest.mark.parametrize("wrong", [[0.0] * 383, [[0.0] * 384], [float("nan")] * 384, [float("inf")] * 384])
def test_what_is_no_embedding_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="384 finite"):
        PRIOR.features.of("Hello", wrong)


def test_a_prior_expects_of_each_model_what_the_examples_showed() -> None:
    view = Posterior(PRIOR, {}).view({"strong": 0.5, "weak": 0.5})
    (_, hard), (_, easy) = (view.predict(PRIOR.features.of("Hello", embedding(x))) for x in (-0.9, 0.9))
    assert hard < 0.3
    assert easy > 0.7


def test_a_model_the_prior_does_not_know_begins_at_the_catalogues_quality_and_goes_with_the_known_ones() -> None:
    middle = list(PRIOR.features.centre)
    view = Posterior(PRIOR, {}).view({"good": 0.9, "poor": 0.55})
    assert view.predict(PRIOR.features.of("Prompt 1", middle)) == pytest.approx([0.9, 0.55], abs=0.1)
    (good, poor) = view.predict(PRIOR.features.of("Prompt 1", embedding(-0.9)))
    assert good - poor > 0.5


def test_a_task_that_is_known_is_told_apart_and_an_unknown_one_changes_nothing() -> None:
    examples = [Example(f"Prompt {n}", "code" if n % 2 else "chat", {"a": float(n % 2), "b": 0.5}) for n in range(N)]
    prior = train(examples, None)
    view = Posterior(prior, {}).view({"a": 0.5})
    code, chat, none, strange = (
        view.predict(prior.features.of("Prompt", None, task))[0] for task in ("code", "chat", "", "poetry")
    )
    assert code > 0.8
    assert chat < 0.2
    assert none == strange == pytest.approx(0.5, abs=0.1)


def test_one_by_one_or_all_at_once_teaches_the_same() -> None:
    lot = [*outcomes("new", 1.0, 3), *outcomes("weak", 0.0, 2), *outcomes("new", 0.25, 2)]
    at_once = Posterior(PRIOR, {}).learned(lot)
    one_by_one = Posterior(PRIOR, {})
    for outcome in lot:
        one_by_one = one_by_one.learned([outcome])
    assert at_once.to_bytes() == one_by_one.to_bytes()


def test_learning_leaves_the_posterior_it_began_with_as_it_was() -> None:
    first = Posterior(PRIOR, {}).learned(outcomes("new", 1.0))
    before = first.to_bytes()
    first.learned(outcomes("new", 0.0, 50))
    assert first.to_bytes() == before


def test_outcomes_make_a_model_better_known_and_leave_the_others_alone() -> None:
    x = PRIOR.features.of("Hello", embedding(0.1))
    models = {"new": 0.5, "other": 0.5}
    before, after = (
        p.view(models) for p in (Posterior(PRIOR, {}), Posterior(PRIOR, {}).learned(outcomes("new", 0.2, 200)))
    )
    assert after.predict(x)[0] == pytest.approx(0.2, abs=0.02)
    assert after.predict(x)[1] == before.predict(x)[1]
    assert after.uncertain(x)[0] < before.uncertain(x)[0] / 5
    assert after.uncertain(x)[1] == before.uncertain(x)[1]


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_score_outside_of_0_and_1_teaches_nothing(score: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Posterior(PRIOR, {}).learned(outcomes("new", score))


@pytest.mark.parametrize("features", [(), (0.0,) * 3, (float("nan"),) * PRIOR.features.size])
def test_features_of_another_prior_teach_nothing(features: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="features"):
        Posterior(PRIOR, {}).learned([Outcome(features, "new", 1.0)])


def test_bytes_give_back_what_was_learned() -> None:
    learned = Posterior(PRIOR, {}, discount=0.99).learned([*outcomes("new", 1.0, 9), *outcomes("weak", 0.0, 9)])
    prior = prior_of(PRIOR.to_bytes())
    again = posterior_of(learned.to_bytes(), prior)
    x = PRIOR.features.of("Hello", embedding(0.3))
    models = {"new": 0.5, "weak": 0.5, "strong": 0.5}
    assert prior.features.of("Hello", embedding(0.3)) == x
    assert again.view(models).predict(x) == pytest.approx(learned.view(models).predict(x), abs=1e-5)
    assert prior.to_bytes() == PRIOR.to_bytes()
    assert again.to_bytes() == learned.to_bytes()
    assert again.discount == 0.99


def spoilt() -> list[Callable[[bytes], bytes]]:
    draws = random.Random(1)
    places = [draws.random() for _ in range(40)]

    def flipped(place: float) -> Callable[[bytes], bytes]:
        def flip(data: bytes) -> bytes:
            i = int(place * len(data))
            return data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]

        return flip

    return [lambda _: b"", lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:20], *map(flipped, places)]


@pytest.mark.parametrize("spoil", spoilt())
def test_bytes_that_were_altered_are_refused_with_a_sentence(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match=r"\.$|train$"):
        prior_of(spoil(PRIOR.to_bytes()))
    with pytest.raises(ValueError, match=r"\.$"):
        posterior_of(spoil(Posterior(PRIOR, {}).learned(outcomes("new", 1)).to_bytes()), PRIOR)


def test_one_kind_of_bytes_is_not_taken_for_the_other() -> None:
    with pytest.raises(ValueError, match="no posterior"):
        posterior_of(PRIOR.to_bytes(), PRIOR)
    with pytest.raises(ValueError, match="no prior"):
        prior_of(Posterior(PRIOR, {}).to_bytes())


def test_a_posterior_of_another_prior_is_refused() -> None:
    other = train([Example(f"Prompt {n}", "", {"only": float(n % 2)}) for n in range(N)], None)
    with pytest.raises(ValueError, match="does not fit the prior"):
        posterior_of(Posterior(PRIOR, {}).learned(outcomes("new", 1)).to_bytes(), other)


def test_what_twenty_models_taught_fits_into_100_kilobytes() -> None:
    learned = Posterior(PRIOR, {}).learned(o for n in range(20) for o in outcomes(f"model {n}", 1))
    assert len(learned.to_bytes()) < 100_000
    assert len(PRIOR.to_bytes()) < 100_000


# The simulated bandit: 5,000 decisions, a stationary task, models that nobody knows.

WEIGHTS = weights_of(1.0, SHARPNESS, MOST_EXPLORED)


def world(models: int, steps: int, seed: int, turned: bool = False) -> list[Step]:
    """Each model is good at a part of the prompts; which part, changes when turned. Outcomes are yes or no."""
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(steps):
        place = int(draws.integers(models))
        vector = np.zeros(384)
        vector[0] = 0.9 * np.cos(2 * np.pi * place / models)
        vector[1:4] = draws.normal(size=3) * 0.05
        vector[1] += 0.9 * np.sin(2 * np.pi * place / models)
        best = (place + turned) % models
        values = [0.9 if m == best else 0.45 for m in range(models)]
        made.append(Step(WIDE.features.of("Hello", vector), [float(draws.random() < v) for v in values], values))
    return made


def a_wide_prior() -> Prior:
    """Its places see the first two numbers of an embedding."""
    draws = np.random.default_rng(5)
    vectors = np.hstack((draws.normal(size=(N, 2)) * 0.6, draws.normal(size=(N, 382)) * 0.005))
    return train([Example(f"Prompt {n}", "", {"any": float(n % 2)}) for n in range(N)], vectors)


WIDE = a_wide_prior()


def run(models: int, steps: list[Step], weights: Weights = WEIGHTS) -> Trace:
    return simulate(Posterior(WIDE, {}), {f"model {m}": 0.5 for m in range(models)}, steps, [0.0] * models, weights)


@pytest.mark.parametrize("models", [2, 5])
def test_after_5000_decisions_nine_of_ten_choices_are_optimal(models: int) -> None:
    trace = run(models, world(models, 5000, seed=models))
    assert sum(trace.optimal[-1000:]) >= 900, trace.share()


def test_after_a_drift_choices_become_optimal_again() -> None:
    steps = [*world(3, 2500, seed=1), *world(3, 4000, seed=2, turned=True)]
    trace = run(3, steps)
    assert sum(trace.optimal[2000:2500]) >= 450
    assert sum(trace.optimal[2500:2600]) < 50, "the drift is one"
    assert sum(trace.optimal[-1000:]) >= 900, trace.share()


def test_a_model_that_became_better_unseen_is_found_by_exploring_alone() -> None:
    """The one in use is as good as ever, so that nothing but a try can tell."""
    draws, x = random.Random(7), WIDE.features.of("Hello", None)
    truth = [(0.6, 0.2)] * 500 + [(0.6, 0.95)] * 2500
    steps = [Step(x, [float(draws.random() < v) for v in values], values) for values in truth]
    tried, never = run(2, steps), run(2, steps, weights_of(1.0))
    assert sum(tried.optimal[-500:]) >= 450, tried.share()
    assert sum(never.optimal[-500:]) == 0


@pytest.mark.parametrize("length", [0, 1, BEGINNING + END])
def test_a_short_text_is_read_as_it_is(length: int) -> None:
    text = ("word " * length)[:length]
    assert gist(text) == text


def test_a_long_text_is_read_where_it_begins_and_where_it_ends() -> None:
    text = "".join(chr(0x100 + n) for n in range(BEGINNING + END + 1))
    assert gist(text) == f"{text[:BEGINNING]}\n{text[-END:]}"
