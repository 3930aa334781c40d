"""The learned part of a decision: what a question looks like, and how good each model would be at it.

What a tenant's outcomes taught stands in its policy; before that, the shipped prior says how models of some quality do
at questions of some kind. Where there is nothing to choose from, nobody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.common.learning.posterior import Posterior, View, posterior_of
from services.common.learning.prior import Prior
from services.router.admit import Seen
from services.router.asked import Asked
from services.router.decide import Field

MOST_VIEWS = 512


class Embeds(Protocol):
    """Makes a vector of a text, or None when that takes too long."""

    async def vector(self, text: str) -> Sequence[float] | None: ...


@dataclass(frozen=True, slots=True)
class Eyes:
    prior: Prior
    embeds: Embeds
    views: dict[int, tuple[Field, View]] = field(default_factory=dict)
    """By identity: a field is of one policy version and one catalogue."""

    async def see(self, asked: Asked, field: Field) -> Seen:
        if len(field.plans) < 2:
            return Seen()
        embedding = await self.embeds.vector(asked.text)
        features = self.prior.features.of(asked.text, embedding, asked.task_class)
        view = self._view(field)
        return Seen(features, dict(zip(view.models, view.predict(features), strict=True)))

    def check(self, learned: bytes) -> None:
        """Raise ValueError for a learned part that cannot be read."""
        posterior_of(learned, self.prior)

    def _view(self, field: Field) -> View:
        known = self.views.get(id(field))
        if known is not None and known[0] is field:
            return known[1]
        if len(self.views) >= MOST_VIEWS:
            self.views.clear()
        learned = field.rules.learned
        posterior = posterior_of(learned, self.prior) if learned else Posterior(self.prior, {})
        view = posterior.view(field.catalogue)
        self.views[id(field)] = field, view
        return view
