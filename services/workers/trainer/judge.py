"""Whether what feedback taught makes a better policy than the one that holds. Pure.

Each decision that is judged by is weighed by what was learned from those before it alone, so that none speaks for
itself (progressive validation: Blum, Kalai and Langford 1999). What is learned in the end is learned from all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.common.learning import ope
from services.common.learning.choose import Weights, probabilities, score_of, weights_by
from services.common.learning.ope import Estimate, Estimates, Logged
from services.common.learning.posterior import Outcome, Posterior, View
from services.common.learning.prior import Prior
from soma.router.v1.policy_pb2 import Policy

BLOCK = 50
"""Decisions that are judged between two fits."""
MOST_JUDGED = 2000
LEAST_GAIN = 0.002
"""Points of quality. What is surely better by less is not worth a version."""
UNKNOWN_QUALITY = 0.5
"""Of a model of which the catalogue was never told: it answered when others did not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A decision, its answer, and what was thought of it. Lists are in the order of the candidates."""

    decision: UUID
    decided_time: datetime
    policy: str
    features: Sequence[float]
    candidates: Sequence[str]
    catalogue: Sequence[float]
    costs: Sequence[int]
    latencies: Sequence[int]
    chosen: str
    propensity: float
    answered: str
    cost_microusd: int
    first_token_ms: int
    score: float


@dataclass(frozen=True, slots=True)
class Present:
    """The policy that holds, and by which decisions it is judged."""

    policy: Policy
    posterior: Posterior
    is_learned: bool
    versions: Collection[str]
    """It, and those that differ from it in what was learned alone."""
    since: datetime | None = None
    """Only decisions after that time count."""

    def counts(self, sample: Sample) -> bool:
        """A choice of its kind, by chance among several, that was carried out."""
        is_late = self.since is None or sample.decided_time > self.since
        return sample.policy in self.versions and is_late and len(sample.candidates) > 1 and is_as_chosen(sample)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is empty when the new policy is better, else "too few", "no overlap" or "not better"."""

    why: str
    learned: Posterior
    samples: int
    judged: int = 0
    new: Estimates | None = None
    present: Estimates | None = None
    gain: Estimate | None = None

    @property
    def note(self) -> str:
        """For people, at most 500 letters."""
        if self.new is None or self.present is None or self.gain is None:
            return f"Learned from {self.samples} answers; {self.judged} of them can be judged by."
        new, present, gain = self.new, self.present, self.gain
        return (
            f"Learned from {self.samples} answers. On {self.judged} of them, not seen before: gain {shown(gain)}. "
            f"Worth {shown(new.dr)} (SNIPS {shown(new.snips)}, IPS {shown(new.ips)}) instead of {shown(present.dr)} "
            f"(SNIPS {shown(present.snips)}, IPS {shown(present.ips)}); as sure as {gain.effective:.0f} of its own."
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How a policy, with something learned, chooses among a sample's candidates."""

    weights: Weights
    view: View
    places: Mapping[str, int] = field(default_factory=dict)

    def expected(self, sample: Sample) -> list[float]:
        """What each is worth by its expected quality, cost and wait."""
        qualities = self.view.predict(sample.features)
        return [
            score_of(qualities[self.places[model]], cost, ms, self.weights)
            for model, cost, ms in zip(sample.candidates, sample.costs, sample.latencies, strict=True)
        ]

    def chances(self, sample: Sample) -> list[float]:
        return probabilities(self.expected(sample), self.weights)


def judge(prior: Prior, samples: Sequence[Sample], present: Present) -> Verdict:
    """From samples in the order of their decisions. The judged ones are the last half of those that count, at most
    2,000. ValueError for a sample that does not fit the prior."""
    counting = [sample.decision for sample in samples if present.counts(sample)]
    judged = frozenset(counting[-min(MOST_JUDGED, len(counting) // 2) :]) if len(counting) > 1 else frozenset()
    learned, logged = in_order(prior, samples, present, judged)
    return verdict(learned, len(samples), logged)


def in_order(
    prior: Prior, samples: Sequence[Sample], present: Present, judged: Collection[UUID]
) -> tuple[Posterior, list[Logged]]:
    """What is learned from all, and the judged ones, each as it looked to what was learned before it."""
    told, learned, logged = catalogue_of(samples), Posterior(prior, {}), list[Logged]()
    now = scale(present.policy, present.posterior, told, is_learned=present.is_learned)
    for block in blocks(samples, judged):
        new = scale(present.policy, learned, told, is_learned=True)
        logged += [logged_of(sample, new, now) for sample in block if sample.decision in judged]
        learned = learned.learned(outcome(sample, told) for sample in block)
    return learned, logged


def verdict(learned: Posterior, samples: int, logged: Sequence[Logged]) -> Verdict:
    if len(logged) < ope.LEAST_DECISIONS:
        return Verdict("too few", learned, samples, len(logged))
    gain = ope.gain(logged)
    why = "no overlap" if gain.effective < ope.LEAST_EFFECTIVE else "not better"
    is_worth_it = ope.is_better(logged) and gain.value >= LEAST_GAIN
    return Verdict(
        "" if is_worth_it else why, learned, samples, len(logged), ope.estimates(logged),
        ope.estimates([as_present(one) for one in logged]), gain,
    )  # fmt: skip


def as_present(logged: Logged) -> Logged:
    return Logged(logged.chosen, logged.propensity, logged.reward, logged.present, logged.present, logged.expected)


def scale(policy: Policy, posterior: Posterior, told: Mapping[str, float], *, is_learned: bool) -> Scale:
    view = posterior.view(told)
    return Scale(weights_by(policy, is_learned=is_learned), view, {model: n for n, model in enumerate(view.models)})


def logged_of(sample: Sample, new: Scale, present: Scale) -> Logged:
    """Rewards are scores less what the answer cost and how long it took, by the policy's own dial."""
    at = sample.candidates.index(sample.chosen)
    ms = sample.first_token_ms or sample.latencies[at]
    reward = score_of(sample.score, sample.cost_microusd, ms, new.weights)
    expected = new.expected(sample)
    chances = probabilities(expected, new.weights)
    return Logged(at, sample.propensity, reward, chances, present.chances(sample), expected)


def outcome(sample: Sample, told: Mapping[str, float]) -> Outcome:
    """Of the model that answered, whether it was chosen or took over."""
    return Outcome(sample.features, sample.answered, sample.score, told[sample.answered])


def is_as_chosen(sample: Sample) -> bool:
    return sample.answered == sample.chosen


def catalogue_of(samples: Sequence[Sample]) -> Mapping[str, float]:
    """The quality of each model before anything is learned, as it was told last."""
    told = {sample.answered: UNKNOWN_QUALITY for sample in samples}
    for sample in samples:
        told.update(zip(sample.candidates, sample.catalogue, strict=True))
    return told


def blocks(samples: Sequence[Sample], judged: Collection[UUID]) -> Iterator[Sequence[Sample]]:
    """All before the first judged one, then some at a time."""
    first = next((n for n, sample in enumerate(samples) if sample.decision in judged), len(samples))
    yield samples[:first]
    for n in range(first, len(samples), BLOCK):
        yield samples[n : n + BLOCK]


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
