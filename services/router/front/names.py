"""What a model may be called here: "provider/model", the model's name alone, a tier, or "soma/auto". Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import NotFound
from services.router.covers import (
    AUTO_NAME,
    CHOSEN_HERE,
    EMBEDDING,
    EMBEDS_HERE,
    MINILM,
    covers,
    embeds_here,
    makes_vectors,
)
from services.router.offers import Offer

SHOWN = 100


@dataclass(frozen=True, slots=True)
class Menu:
    """The models of the catalogue, as far as a caller may name them."""

    offers: Sequence[Offer]
    only: Collection[str] = ()
    """The names that a key is bound to. None: all."""

    def chat(self, name: str) -> tuple[str, list[str]]:
        """Tier and models of a request that names it. Raises NotFound MODEL_UNKNOWN."""
        if name in CHOSEN_HERE and self._may_choose(name):
            return CHOSEN_HERE[name], []
        if any(covers(self.only, offer) for offer in self._called(name) if not makes_vectors(offer)):
            return "auto", [name]
        raise unknown(name)

    def embedding(self, name: str) -> str:
        """The name under which the router knows a model that makes vectors. Raises NotFound MODEL_UNKNOWN."""
        for offer in self.offers:
            if name in EMBEDS_HERE and embeds_here(offer) and covers(self.only, offer):
                return MINILM
            if name in (offer.name, offer.model) and makes_vectors(offer) and covers(self.only, offer):
                return offer.name
        raise unknown(name)

    def names(self) -> list[tuple[str, str]]:
        """What may be named now, and whose it is. A model that is closed whatever is asked is not among them."""
        return list(dict.fromkeys(self._every()))

    def owner(self, name: str) -> str:
        """Whose it is; one that is closed has an owner too. Raises NotFound MODEL_UNKNOWN."""
        if name in dict(self._every()):
            return dict(self._every())[name]
        for offer in self._called(name):
            if covers(self.only, offer):
                return offer.provider.name
        raise unknown(name)

    def _every(self) -> Iterator[tuple[str, str]]:
        yield from ((name, "soma") for name in CHOSEN_HERE if self._may_choose(name))
        mine = [offer for offer in self.offers if not offer.closed and covers(self.only, offer)]
        if any(embeds_here(offer) for offer in mine):
            yield from ((name, "soma") for name in (EMBEDDING, MINILM))
        yield from ((offer.name, offer.provider.name) for offer in mine)

    def _called(self, name: str) -> Iterator[Offer]:
        return (offer for offer in self.offers if name in (offer.name, offer.model))

    def _may_choose(self, name: str) -> bool:
        """Whoever may use whatever is chosen may say where it begins too."""
        return not self.only or name in self.only or AUTO_NAME in self.only


def unknown(name: str) -> NotFound:
    message = f"The model {name[:SHOWN]!r} is not here, or not yours to use. GET /v1/models lists those that are."
    return NotFound("MODEL_UNKNOWN", message, field="model")
