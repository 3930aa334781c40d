"""The learned part of a decision: what a question looks like, and how good each model would be at it."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.admit import Seen
from services.router.asked import Asked
from services.router.policies.rules import Rules


@dataclass(frozen=True, slots=True)
class Blind:
    """Nothing is learned: the catalogue's figures hold."""

    async def see(self, _rules: Rules, _asked: Asked) -> Seen:
        return Seen()
