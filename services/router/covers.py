"""What the names that a key is bound to cover, and which names there are. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from services.router.offers import TIERS, Offer

AUTO_NAME = "soma/auto"
CHOSEN_HERE = {AUTO_NAME: "auto", **{f"soma/{tier}": tier for tier in TIERS}}
"""Names under which the router chooses, with the tier that it begins at."""
EMBEDDING, MINILM = "soma/embedding", "all-MiniLM-L6-v2"
EMBEDS_HERE = (EMBEDDING, MINILM, f"local/{MINILM}")
"""Names of the model on this machine that makes vectors."""
EMBEDDINGS = "embeddings"
"""The capability of a model that makes vectors, and answers nothing: it is no candidate for an answer."""


def covers(names: Collection[str], offer: Offer) -> bool:
    """A key that is bound to these names may use the offer. No names: it may use all. "soma/auto" covers every model
    that answers, "soma/premium" and its like those of the tier, "soma/embedding" the vectors made here."""
    if not names or offer.name in names or offer.model in names:
        return True
    if makes_vectors(offer):
        return embeds_here(offer) and any(name in names for name in EMBEDS_HERE)
    return AUTO_NAME in names or f"soma/{offer.tier}" in names


def makes_vectors(offer: Offer) -> bool:
    return EMBEDDINGS in offer.capabilities


def embeds_here(offer: Offer) -> bool:
    """It is the model on this machine that makes vectors."""
    return offer.model == MINILM and offer.provider.is_here and makes_vectors(offer)


def is_name(name: str, models: Iterable[tuple[str, str]]) -> bool:
    """A key may be bound to it, where these are all models, by provider and name."""
    if name in CHOSEN_HERE or name in EMBEDS_HERE:
        return True
    return any(name in (model, f"{provider}/{model}") for provider, model in models)
