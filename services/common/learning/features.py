"""A prompt as a short list of numbers, with its embedding or without.

In this order: what each direction of the prior says of it (`directions`, learned), its place among prompts
(`places`, principal components), and its signals. Rounded, so that an event and a decision's record can hold them and
give the same prediction again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.common.learning.signals import COUNT, signals

Floats: TypeAlias = NDArray[np.float64]
DIMENSIONS = 384
"""Of MiniLM's embeddings."""
DIGITS = 4
SIGNAL_WEIGHT = 0.02
"""Of a signal beside an embedding of length 1: what a direction sees is mostly the embedding."""
TASK_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Scale:
    """How signals become comparable: mean 0, and together a length of about 1."""

    centre: Floats
    spread: Floats

    def __call__(self, text: str) -> Floats:
        scaled: Floats = (np.array(signals(text)) - self.centre) / self.spread
        return np.clip(scaled, -1.0, 1.0, out=scaled)


@dataclass(frozen=True, slots=True)
class Features:
    """How prompts become numbers. What is learned in it comes with the prior (`prior.train`)."""

    scale: Scale
    tasks: Mapping[str, float]
    """The classes of tasks that are known, and how usual each is. Any other counts as none."""
    centre: Floats
    """(384,) the mean embedding."""
    places: Floats
    """(384, k)"""
    seeing: Floats
    """(384 + signals + tasks, r) from what is seen to directions."""
    blind: Floats
    """(signals + tasks, r) the same, when there is no embedding."""

    @property
    def size(self) -> int:
        return len(self.seeing[0]) + len(self.places[0]) + COUNT

    def of(self, text: str, embedding: ArrayLike | None = None, task: str = "") -> tuple[float, ...]:
        """The numbers of a prompt. ValueError when the embedding is no vector of 384 finite numbers."""
        seen = self.scale(text)
        if embedding is None:
            directions, places = self.plain(seen, task) @ self.blind, np.zeros(self.places.shape[1])
        else:
            off = checked(embedding) - self.centre
            directions = np.concatenate((off, self.plain(seen, task))) @ self.seeing
            places = off @ self.places
        return tuple(np.concatenate((directions, places, seen)).round(DIGITS).tolist())

    def plain(self, seen: Floats, task: str) -> Floats:
        """What a direction sees besides the embedding."""
        return plain(seen, task, self.tasks)


def plain(seen: Floats, task: str, tasks: Mapping[str, float]) -> Floats:
    ofs = [TASK_WEIGHT * ((task == known) - usual) if task in tasks else 0.0 for known, usual in tasks.items()]
    return np.concatenate((seen * (SIGNAL_WEIGHT * COUNT**0.5), ofs))


def checked(embedding: ArrayLike) -> Floats:
    vector = np.asarray(embedding, np.float64)
    if vector.shape != (DIMENSIONS,) or not np.isfinite(vector).all():
        raise ValueError(f"An embedding has {DIMENSIONS} finite numbers; this one has the shape {vector.shape}.")
    return vector


def scale_of(texts: Sequence[str]) -> Scale:
    """From the prompts of a training."""
    seen = np.array([signals(text) for text in texts])
    return Scale(seen.mean(axis=0), (seen.std(axis=0) + 0.01) * COUNT**0.5)
