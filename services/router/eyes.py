"""The learned part of a decision: what a question looks like, and how good each model would be at it.

What a tenant's outcomes taught stands in its policy; before that, the shipped prior says how models of some quality do
at questions of some kind. Where there is nothing to choose from, nobody looks: numpy and the prior, 12 MB, are loaded
when somebody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from services.router.admit import Seen
from services.router.asked import Asked
from services.router.decide import Field

if TYPE_CHECKING:
    from services.common.learning.posterior import View
    from services.common.learning.prior import Prior

MOST_VIEWS = 512


class Embeds(Protocol):
    """Makes a vector of a text, or None when that takes too long."""

    async def vector(self, text: str) -> Sequence[float] | None: ...


@dataclass(slots=True, eq=False)
class Eyes:
    prior: Prior | None
    """None: the shipped one, from the first look on."""
    embeds: Embeds
    views: dict[int, tuple[Field, View]] = field(default_factory=dict)
    """By identity: a field is of one policy version and one catalogue."""

    async def see(self, asked: Asked, field: Field) -> Seen:
        if len(field.plans) < 2:
            return Seen()
        embedding = await self.embeds.vector(asked.text)
        prior = self.prior if self.prior is not None else await asyncio.to_thread(self._load)
        features = prior.features.of(asked.text, embedding, asked.task_class)
        view = self._view(field, prior)
        return Seen(features, dict(zip(view.models, view.predict(features), strict=True)))

    def check(self, learned: bytes) -> None:
        """Raise ValueError for a learned part that cannot be read."""
        from services.common.learning.posterior import posterior_of

        posterior_of(learned, self.prior or self._load())

    def _load(self) -> Prior:
        """0.1 s, once."""
        from services.common.learning.prior import shipped

        self.prior = shipped()
        return self.prior

    def _view(self, field: Field, prior: Prior) -> View:
        known = self.views.get(id(field))
        if known is not None and known[0] is field:
            return known[1]
        if len(self.views) >= MOST_VIEWS:
            self.views.clear()
        view = view_of(field.rules.learned, prior, field.catalogue)
        self.views[id(field)] = field, view
        return view


def view_of(learned: bytes | None, prior: Prior, catalogue: Mapping[str, float]) -> View:
    from services.common.learning.posterior import Posterior, posterior_of

    posterior = posterior_of(learned, prior) if learned else Posterior(prior, {})
    return posterior.view(catalogue)
