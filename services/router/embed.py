"""Vectors of texts, through the same admission as every other call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from services.common.call import Call
from services.common.errors import Unavailable
from services.router.admit import Admission, Admitted
from services.router.asked import Asked
from services.router.decide import AUTO, Shape
from services.router.models.embeddings import Endpoint, Vectors, vectors_from
from services.router.store import Settlement
from services.router.window import Size, tokens_of
from soma.common.v1.model_pb2 import Usage
from soma.router.v1.routing_pb2 import Hints, Outcome

NEEDS = frozenset({"embeddings"})
MOST_TIMES = 4
"""A count of tokens of more times ours is none: ours is on the safe side."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of one model, in the order of the texts."""

    model: str
    """As it may be asked for again."""
    vectors: Sequence[Sequence[float]]
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Vectorizer:
    """Its fields are the doors."""

    admission: Admission
    session: aiohttp.ClientSession

    async def embed(self, call: Call, model: str, texts: Sequence[str]) -> Embedded:
        """Raises what admission raises, and what `vectors_from` raises: then nothing was spent."""
        admitted = await self.admission.admit(call, asked_for_vectors(call, model, texts))
        outcome, finish_reason = Outcome(), "cancelled"
        try:
            vectors = await self._ask(admitted, texts)
            outcome, finish_reason = outcome_of(admitted, vectors), "stop"
        finally:
            admitted.place.give_back()
            books = self.admission.books
            settling = books.settle(call, Settlement("", admitted.decision, outcome, finish_reason))
        await books.wait(settling)
        return Embedded(admitted.offer.model, vectors.vectors, outcome.usage.input_tokens)

    async def _ask(self, admitted: Admitted, texts: Sequence[str]) -> Vectors:
        offer = admitted.offer
        endpoint = Endpoint(offer.provider.name, offer.provider.base_url, offer.model, offer.provider.key)
        async with admitted.place.turn() as lane:
            try:
                vectors = await vectors_from(self.session, endpoint, texts, offer.provider.limits.total_s)
            except Unavailable:
                lane.circuit.failed(self.admission.live.monotonic())
                raise
            lane.circuit.worked()
            return vectors


def asked_for_vectors(call: Call, model: str, texts: Sequence[str]) -> Asked:
    hints = Hints(models=[model]).SerializeToString(deterministic=True)
    tokens = sum(map(tokens_of, texts))
    return Asked(shape=Shape(AUTO, NEEDS, hints, call.caller.models), size=Size((tokens,), 0), max_tokens=1, text="")


def outcome_of(admitted: Admitted, vectors: Vectors) -> Outcome:
    """The provider's count of tokens; ours where it gives none that can be."""
    ours, told = admitted.asked.size.total, vectors.tokens
    tokens = told if told is not None and 0 < told <= MOST_TIMES * ours else ours
    price = admitted.offer.price
    return Outcome(
        usage=Usage(input_tokens=tokens, estimated=tokens != told),
        cost_microusd=price.cost_microusd(tokens, 0) if price else 0,
        finish_reason="stop",
    )
