"""What is expected before a tenant has seen anything: learned once from known outcomes, and shipped as a small file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike

from services.common.learning import ridge
from services.common.learning.features import DIMENSIONS, Features, Floats, Scale, plain, scale_of
from services.common.learning.packed import DIGEST, pack, unpack
from services.common.learning.signals import COUNT

PLACES = 16
MOST_DIRECTIONS = 6
MOST_TASKS = 16
LEAST_ROWS = 20
NOISE = 0.2
"""The variance of an outcome around its expectation; that of a coin is 0.25."""
SURE_OF = {"quality": 0.2, "direction": 0.5, "place": 0.3, "signal": 0.3}
"""Standard deviations of what a tenant's truth may be beside the prior: in points of quality; a direction's in shares
of what the prior says; places and signals are scaled to about 1."""
KIND = "prior"
SHIPPED = "prior.bin"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt of which some models' outcomes are known, as scores in [0, 1]."""

    text: str
    task: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Known:
    """A model that the prior was trained on."""

    quality: float
    """Its mean score there."""
    coefficients: Floats
    """(r,) how it goes with each direction."""


@dataclass(frozen=True, slots=True)
class Prior:
    features: Features
    known: Mapping[str, Known]

    @property
    def size(self) -> int:
        """Of weights: the quality itself, and one a feature."""
        return 1 + self.features.size

    def mean(self, model: str, quality: float) -> Floats:
        """Expected weights. A model that is not known here goes as the known ones go with their quality."""
        known = self.known.get(model)
        weights = np.zeros(self.size)
        weights[0] = known.quality if known else quality
        directions = known.coefficients if known else self.between(quality)
        weights[1 : 1 + len(directions)] = directions
        return weights

    def variance(self) -> Floats:
        r, k = self.features.seeing.shape[1], self.features.places.shape[1]
        stds = np.repeat([SURE_OF[part] for part in ("quality", "direction", "place", "signal")], (1, r, k, COUNT))
        return np.asarray(stds**2)

    def between(self, quality: float) -> Floats:
        """The line through the known models' coefficients over their quality, not beyond the best and the worst."""
        qualities = np.array([one.quality for one in self.known.values()])
        all_of = np.array([one.coefficients for one in self.known.values()])
        off, spread = qualities - qualities.mean(), float(((qualities - qualities.mean()) ** 2).sum())
        if spread < 1e-6:
            return np.asarray(all_of.mean(axis=0))
        at = np.clip(quality, qualities.min(), qualities.max()) - qualities.mean()
        return np.asarray(all_of.mean(axis=0) + at * (off @ all_of) / spread)

    def identity(self) -> str:
        """The same for the same prior: its checksum."""
        return self.to_bytes()[-DIGEST:].hex()

    def to_bytes(self) -> bytes:
        f = self.features
        arrays = [f.scale.centre, f.scale.spread, f.centre, f.places, f.seeing, f.blind]
        arrays += [np.concatenate(([one.quality], one.coefficients)) for one in self.known.values()]
        return pack(KIND, {"tasks": dict(f.tasks), "models": list(self.known)}, arrays)


def prior_of(data: bytes) -> Prior:
    """From what to_bytes gave. ValueError with a sentence when it is anything else."""
    words, arrays = unpack(KIND, data)
    try:
        tasks = {str(task): float(usual) for task, usual in words["tasks"].items()}
        models = [str(model) for model in words["models"]]
        centre, spread, middle, places, seeing, blind, *rest = arrays
        r = seeing.shape[1]
        shapes = [(COUNT,), (COUNT,), (DIMENSIONS,), (DIMENSIONS, places.shape[1])]
        shapes += [(DIMENSIONS + COUNT + len(tasks), r), (COUNT + len(tasks), r), *[(1 + r,)] * len(models)]
        fits = [array.shape for array in arrays] == shapes and bool(models) and bool((spread > 0).all())
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ValueError("This is no prior of this version. Build it anew: soma route train") from error
    if not fits:
        raise ValueError("The parts of this prior do not fit each other. Build it anew: soma route train")
    known = {model: Known(float(one[0]), one[1:]) for model, one in zip(models, rest, strict=True)}
    return Prior(Features(Scale(centre, spread), tasks, middle, places, seeing, blind), known)


@cache
def shipped() -> Prior:
    """The one beside this file, of which every tenant's posterior is."""
    return prior_of(resources.files("services.common.learning").joinpath(SHIPPED).read_bytes())


def train(examples: Sequence[Example], embeddings: ArrayLike | None) -> Prior:
    """The prior from examples and their embeddings (n, 384), as it will be when read from its file.
    Without embeddings it knows the signals alone. ValueError when there are too few examples."""
    if len(examples) < LEAST_ROWS:
        raise ValueError(f"A prior needs {LEAST_ROWS} examples or more; here are {len(examples)}.")
    vectors = np.zeros((len(examples), DIMENSIONS)) if embeddings is None else np.asarray(embeddings, np.float64)
    names = sorted({name for example in examples for name in example.scores})
    scores = np.array([[example.scores.get(name, np.nan) for name in names] for example in examples])
    scale, tasks = scale_of([example.text for example in examples]), tasks_of(examples)
    side = np.array([plain(scale(example.text), example.task, tasks) for example in examples])
    centre = vectors.mean(axis=0)
    seen = np.hstack((vectors - centre, side))
    alone = ridge.fit(side - side.mean(axis=0), scores)
    if embeddings is None:
        weights = np.vstack((np.zeros((DIMENSIONS, len(names))), alone))
    else:
        weights = ridge.fit(seen - seen.mean(axis=0), scores)
    directions, coefficients = reduced(seen, weights)
    blind = alone @ np.linalg.pinv(coefficients)
    features = Features(scale, tasks, centre, places_of(vectors - centre), directions, blind)
    means = np.nanmean(scores, axis=0)
    known = {name: Known(float(means[j]), coefficients[:, j]) for j, name in enumerate(names)}
    return prior_of(Prior(features, known).to_bytes())


def tasks_of(examples: Sequence[Example]) -> dict[str, float]:
    """The most usual classes. One alone tells nothing."""
    usual = Counter(e.task for e in examples if e.task).most_common(MOST_TASKS)
    return {task: n / len(examples) for task, n in usual} if len(usual) > 1 else {}


def reduced(seen: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """What the weights say of the examples, by as few directions as the models allow: directions (features, r) of
    variance 1 among the examples, and coefficients (r, models)."""
    said = (seen - seen.mean(axis=0)) @ weights
    _, sizes, models = np.linalg.svd(said, full_matrices=False)
    r = max(1, min(MOST_DIRECTIONS, int((sizes > 1e-6 * max(sizes[0], 1e-12)).sum())))
    spread = np.maximum(sizes[:r], 1e-9) / len(seen) ** 0.5
    return weights @ models[:r].T / spread, models[:r] * spread[:, None]


def places_of(off: Floats) -> Floats:
    """The first principal components of the embeddings, scaled so that a prompt's place has a length of about 1."""
    _, sizes, axes = np.linalg.svd(off, full_matrices=False)
    k = min(PLACES, len(sizes))
    length = float(np.sqrt((sizes[:k] ** 2).sum() / len(off)))
    return np.asarray(axes[:k].T / length if length > 0 else np.zeros((off.shape[1], k)))
