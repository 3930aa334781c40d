"""What a tenant's outcomes say of each model: Bayesian linear regression around the prior, that forgets what is old.

With prior N(m, diag(v)), noise s2 and outcomes (x, y): cov = (diag(1/v) + sum x x' / s2)^-1 and
mean = m + cov @ sum x (y - m.x) / s2 (Bishop 2006, 3.50-3.51). Each outcome of a model first discounts the older ones
of the same model (discounted LinUCB: Russac, Vernade, Cappé 2019), so that a model that drifted is learned anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.learning.features import Floats
from services.common.learning.packed import pack, unpack
from services.common.learning.prior import NOISE, Prior

KIND = "posterior"
DISCOUNT = 0.998
"""What an outcome still counts after the next one: together, the last 500 of a model."""
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a decision: its features as recorded, the model that answered, and a score in [0, 1]."""

    features: Sequence[float]
    model: str
    score: float
    quality: float = 0.5
    """The catalogue's, of a model that the prior does not know. The first one that is told stays."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that outcomes said of one model."""

    quality: float
    count: float
    """Outcomes, discounted."""
    precision: Floats
    """(d, d) sum of x x' / s2"""
    pull: Floats
    """(d,) sum of x (y - m.x) / s2"""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Immutable: what is learned gives a new one. Without evidence it is the prior."""

    prior: Prior
    of: Mapping[str, Evidence]
    discount: float = DISCOUNT

    def learned(self, outcomes: Iterable[Outcome]) -> Posterior:
        """With these outcomes, in this order: one by one or all at once comes to the same.
        ValueError when an outcome's features are not the prior's, or its score is none."""
        fresh: dict[str, Evidence] = {}
        for outcome in outcomes:
            x = self.vector(outcome)
            old = fresh.get(outcome.model) or copied(self.of.get(outcome.model), outcome.quality, self.prior.size)
            fresh[outcome.model] = self.after(old, x, outcome)
        return Posterior(self.prior, {**self.of, **fresh}, self.discount)

    def vector(self, outcome: Outcome) -> Floats:
        x = np.array((1.0, *outcome.features))
        if len(x) != self.prior.size or not np.isfinite(x).all():
            raise ValueError(f"An outcome has {len(x) - 1} features; this prior knows {self.prior.size - 1}.")
        if not 0 <= outcome.score <= 1:
            raise ValueError(f"A score lies between 0 and 1; this one is {outcome.score}.")
        return x

    def after(self, old: Evidence, x: Floats, outcome: Outcome) -> Evidence:
        """Takes the arrays of `old` over."""
        precision, pull = old.precision, old.pull
        precision *= self.discount
        precision += np.outer(x / NOISE, x)
        pull *= self.discount
        pull += x * ((outcome.score - x @ self.prior.mean(outcome.model, old.quality)) / NOISE)
        return Evidence(old.quality, old.count * self.discount + 1, precision, pull)

    def view(self, models: Mapping[str, float]) -> View:
        """Ready to predict these models, given with the catalogue's quality of each."""
        prior_precision = np.diag(1 / self.prior.variance())
        means, covariances = [], []
        for model, quality in models.items():
            said = self.of.get(model)
            mean = self.prior.mean(model, said.quality if said else quality)
            covariance = np.linalg.inv(prior_precision + said.precision) if said else np.diag(self.prior.variance())
            means.append(mean + covariance @ said.pull if said else mean)
            covariances.append(covariance)
        size = self.prior.size
        return View(
            tuple(models), np.array(means).reshape(-1, size), np.array(covariances).reshape(len(models) * size, size)
        )

    def to_bytes(self) -> bytes:
        """What outcomes said, without the prior. Half of each matrix, since it is symmetric."""
        upper = np.triu_indices(self.prior.size)
        arrays = [np.concatenate(([e.quality, e.count], e.pull, e.precision[upper])) for e in self.of.values()]
        return pack(KIND, {"prior": self.prior.identity(), "models": list(self.of), "discount": self.discount}, arrays)


@dataclass(frozen=True, slots=True)
class View:
    """Expected quality of each model, in microseconds a prompt."""

    models: tuple[str, ...]
    weights: Floats
    """(models, d)"""
    covariances: Floats
    """(models * d, d)"""

    def predict(self, features: Sequence[float]) -> list[float]:
        """In the order of `models`, each in [0, 1]."""
        means = self.weights @ np.array((1.0, *features))
        expected: list[float] = np.minimum(np.maximum(means, 0.0), 1.0).round(DIGITS).tolist()
        return expected

    def uncertain(self, features: Sequence[float]) -> list[float]:
        """The standard deviation of each expectation; the noise of a single outcome is not in it."""
        x = np.array((1.0, *features))
        variances = (self.covariances @ x).reshape(len(self.models), len(x)) @ x
        return [round(max(0.0, variance) ** 0.5, DIGITS) for variance in variances.tolist()]


def copied(old: Evidence | None, quality: float, size: int) -> Evidence:
    if old is None:
        return Evidence(quality, 0.0, np.zeros((size, size)), np.zeros(size))
    return Evidence(old.quality, old.count, old.precision.copy(), old.pull.copy())


def posterior_of(data: bytes, prior: Prior) -> Posterior:
    """From what to_bytes gave. ValueError with a sentence when it is anything else, or of another prior."""
    words, arrays = unpack(KIND, data)
    size = prior.size
    upper = np.triu_indices(size)
    long = 2 + size + len(upper[0])
    try:
        models, discount = [str(model) for model in words["models"]], float(words["discount"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("This is no posterior of this version.") from error
    if words.get("prior") != prior.identity():
        raise ValueError("This posterior does not fit the prior: it was learned with another one.")
    if len(models) != len(arrays) or any(array.shape != (long,) for array in arrays) or not 0 < discount <= 1:
        raise ValueError("This posterior is no such thing: its parts do not fit each other.")
    return Posterior(
        prior, {model: unrolled(array, upper, size) for model, array in zip(models, arrays, strict=True)}, discount
    )


def unrolled(array: Floats, upper: tuple[np.ndarray, ...], size: int) -> Evidence:
    """ValueError for a matrix that no outcomes give."""
    precision = np.zeros((size, size))
    precision[upper] = array[2 + size :]
    precision += np.triu(precision, 1).T
    least = np.linalg.eigvalsh(precision)[0]
    if least < -1e-3 * max(1.0, float(precision.diagonal().max())) or array[1] < 0:
        raise ValueError("This posterior holds what no outcomes can say.")
    return Evidence(float(array[0]), float(array[1]), precision, array[2 : 2 + size].copy())
