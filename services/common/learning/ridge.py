"""Least squares with a shrinkage that the rows choose themselves, by leaving each one out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.common.learning.features import Floats

Parts: TypeAlias = tuple[Floats, ...]
SHRINKAGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def fit(seen: Floats, scores: Floats) -> Floats:
    """Weights (features, models) for scores (rows, models) around their means; nan is unknown.

    `seen` is centred. The shrinkage, one for all, is the one that errs least on rows left out: in how much
    better one model is than the others of its row, since that is what a router asks."""
    parts: dict[bytes, Parts] = {}
    columns = [Column.of(seen, scores[:, j], parts) for j in range(scores.shape[1])]
    best = min(SHRINKAGES, key=lambda shrinkage: left_out([c.errors(shrinkage) for c in columns]))
    return np.column_stack([column.weights(best) for column in columns])


@dataclass(frozen=True, slots=True)
class Column:
    """The rows of which one model's score is known, as left @ diag(sizes) @ axes."""

    known: NDArray[np.bool_]
    left: Floats
    sizes: Floats
    axes: Floats
    off: Floats
    """The scores around their mean."""

    @classmethod
    def of(cls, seen: Floats, scores: Floats, parts: dict[bytes, Parts]) -> Column:
        """Models of which the same rows are known share their parts."""
        known = ~np.isnan(scores)
        if known.tobytes() not in parts:
            parts[known.tobytes()] = tuple(np.linalg.svd(seen[known], full_matrices=False))
        left, sizes, axes = parts[known.tobytes()]
        return cls(known, left, sizes, axes, scores[known] - scores[known].mean())

    def weights(self, shrinkage: float) -> Floats:
        return np.asarray(self.axes.T @ (self.sizes / (self.sizes**2 + shrinkage) * (self.left.T @ self.off)))

    def errors(self, shrinkage: float) -> Floats:
        """Of each row when it is left out: e / (1 - h) (Allen 1974, PRESS), h the row's leverage."""
        kept = self.sizes**2 / (self.sizes**2 + shrinkage)
        leverage = np.minimum(self.left**2 @ kept + 1 / len(self.off), 0.99)
        errors = np.full(self.known.shape, np.nan)
        errors[self.known] = (self.off - self.left @ (kept * (self.left.T @ self.off))) / (1 - leverage)
        return errors


def left_out(columns: Sequence[Floats]) -> float:
    """The mean squared error, around that of the row where the row has several models."""
    errors = np.column_stack(columns)
    counts = (~np.isnan(errors)).sum(axis=1, keepdims=True)
    common = np.where(counts > 1, np.nansum(errors, axis=1, keepdims=True) / np.maximum(counts, 1), 0.0)
    return float(np.nanmean((errors - common) ** 2))
