"""What a model may be called here: "provider/model", the model's name alone, a tier, or "soma/auto". Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from services.common.errors import NotFound
from services.router.offers import TIERS, Offer

CHOSEN_HERE = {"soma/auto": "auto", **{f"soma/{tier}": tier for tier in TIERS}}
"""Names under which the router chooses, with the tier that it begins at."""
EMBEDDING, MINILM = "soma/embedding", "all-MiniLM-L6-v2"
EMBEDS_HERE = (EMBEDDING, MINILM, f"local/{MINILM}")
"""Names of the model on this machine that makes vectors."""
EMBEDDINGS = "embeddings"
"""The capability of a model that makes vectors, and answers nothing."""
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Menu:
    """The models of the catalogue, as far as a caller may name them."""

    offers: Sequence[Offer]
    only: Collection[str] = ()
    """The names that a key is bound to. None: all."""

    def chat(self, name: str) -> tuple[str, list[str]]:
        """Tier and models of a request that names it. Raises NotFound MODEL_UNKNOWN."""
        if name in CHOSEN_HERE and self._may(name):
            return CHOSEN_HERE[name], []
        if any(self._may(offer.name, offer.model) for offer in self._called(name) if not makes_vectors(offer)):
            return "auto", [name]
        raise unknown(name)

    def embedding(self, name: str) -> str:
        """The name under which the router knows a model that makes vectors. Raises NotFound MODEL_UNKNOWN."""
        if name in EMBEDS_HERE and self._may(*EMBEDS_HERE):
            return MINILM
        for offer in self._called(name):
            if makes_vectors(offer) and self._may(offer.name, offer.model):
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
            if self._may(offer.name, offer.model):
                return offer.provider.name
        raise unknown(name)

    def _every(self) -> Iterator[tuple[str, str]]:
        yield from ((name, "soma") for name in CHOSEN_HERE if self._may(name))
        yield from ((name, "soma") for name in EMBEDS_HERE[:2] if self._may(*EMBEDS_HERE))
        for offer in self.offers:
            if not offer.closed and self._may(offer.name, offer.model):
                yield offer.name, offer.provider.name

    def _called(self, name: str) -> Iterator[Offer]:
        return (offer for offer in self.offers if name in (offer.name, offer.model))

    def _may(self, *names: str) -> bool:
        return not self.only or any(name in self.only for name in names)


def makes_vectors(offer: Offer) -> bool:
    return EMBEDDINGS in offer.capabilities


def unknown(name: str) -> NotFound:
    message = f"The model {name[:SHOWN]!r} is not here, or not yours to use. GET /v1/models lists those that are."
    return NotFound("MODEL_UNKNOWN", message, field="model")
