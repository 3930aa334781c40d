"""The one admission path. Nothing that spends money goes round it: the tenant's policy, hard filters, a budget's hold,
the choice, a place in the model's lane; all written down before the model is asked.

A refusal of the books is no refusal yet: with what is left of each budget it is decided again, and a cheaper tier may
be open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.common.call import Call
from services.common.clock import new_id
from services.common.errors import Exhausted
from services.router.asked import Asked
from services.router.budgets.books import Books, Opening
from services.router.budgets.room import Room, Scopes
from services.router.decide import Field, Moment, Question, Shape, decide, most_of, next_after, prepare
from services.router.live import Live, Place
from services.router.offers import Offer
from services.router.policies.held import Policies
from services.router.policies.rules import Rules
from services.router.shelf import Shelf
from services.router.store import Settlement
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.routing_pb2 import Outcome

MOST_FIELDS = 512
MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What the learned part makes of a question."""

    features: tuple[float, ...] = ()
    qualities: Mapping[str, float] = field(default_factory=dict)
    """Expected quality by "provider/model"."""


class Eyes(Protocol):
    """The learned part: what a question looks like, and how good each model would be at it."""

    async def see(self, asked: Asked, field: Field, /) -> Seen: ...


@dataclass(slots=True, eq=False)
class Admitted:
    """A call that may be made: decided, written down and held."""

    call: Call
    asked: Asked
    field: Field
    decision: Decision
    offer: Offer
    place: Place
    scopes: Scopes


@dataclass(frozen=True, slots=True)
class Admission:
    """Its fields are the doors."""

    shelf: Shelf
    live: Live
    policies: Policies
    books: Books
    eyes: Eyes
    mode: str
    draw: Callable[[], float]
    """A number of [0, 1), for the choice."""
    fields: dict[tuple[str, Shape], Field] = field(default_factory=dict)

    async def explain(self, call: Call, asked: Asked) -> Decision:
        """What `admit` would decide now. Holds and writes nothing."""
        field, question, moment = await self._look(call, asked)
        room = await self.books.room(call, asked.scopes(call.caller))
        return decide(question, field, replace(moment, room=room), new_id())

    async def admit(self, call: Call, asked: Asked) -> Admitted:
        """Raises what `decide` raises, Exhausted MODEL_BUSY, Unavailable STORE_UNAVAILABLE, Denied TENANT_UNKNOWN."""
        field, question, moment = await self._look(call, asked)
        scopes, id = asked.scopes(call.caller), new_id()
        for _ in range(MOST_TRIES):
            decision = decide(question, field, moment, id)
            offer = chosen(field, decision)
            place = self.live.take(offer)
            if place is None:
                raise Exhausted("MODEL_BUSY", "The model's queue has just filled up. Try again soon.", retry_after_s=1)
            admitted = Admitted(call, asked, field, decision, offer, place, scopes)
            try:
                room = await self.books.admit(self._opening(admitted))
            except BaseException:  # it may have been written down all the same
                place.give_back()
                self.books.settle(call, Settlement(asked.turn, decision, Outcome(), "cancelled"))
                raise
            if room is None:
                return admitted
            place.give_back()
            moment = replace(moment, room=room)
        raise Exhausted("BUDGET_SPENT", "The budget's room changes too fast just now. Try again.", retry_after_s=1)

    async def move(self, admitted: Admitted, failed: str) -> bool:
        """Let the next open candidate that has room take over, before the first text. False when there is none: all
        stays as it was."""
        decision = next_after(admitted.decision, failed)
        while decision is not None:
            offer = chosen(admitted.field, decision)
            figures = self.live.figures(offer)
            place = None if figures.closed else self.live.take(offer)
            if place is None:
                filter = "health" if figures.closed else "busy"
                decision = next_after(decision, figures.closed or "Its queue is full.", filter)
                continue
            next_one = Admitted(admitted.call, admitted.asked, admitted.field, decision, offer, place, admitted.scopes)
            if await self._held(next_one) is None:
                admitted.place.give_back()
                admitted.decision, admitted.offer, admitted.place = decision, offer, place
                return True
            decision = next_after(decision, "No budget has room for it.", "budget")
        return False

    async def _held(self, admitted: Admitted) -> Room | None:
        """The hold is moved, or the place given back."""
        try:
            room = await self.books.move(self._opening(admitted))
        except BaseException:
            admitted.place.give_back()
            raise
        if room is not None:
            admitted.place.give_back()
        return room

    async def _look(self, call: Call, asked: Asked) -> tuple[Field, Question, Moment]:
        rules = await self.policies.rules(call.caller)
        catalog = self.shelf.catalog
        field = self._field(call.caller.tenant, asked.shape, rules, rules.offers(catalog.offers))
        seen = await self.eyes.see(asked, field)
        question = Question(asked.size, asked.max_tokens, seen.features)
        moment = Moment(self.live.figures, seen.qualities, (), self.draw(), catalog.prices, self.mode)
        return field, question, moment

    def _field(self, tenant: str, shape: Shape, rules: Rules, offers: tuple[Offer, ...]) -> Field:
        known = self.fields.get((tenant, shape))
        if known is not None and known.rules is rules and known.offers is offers:
            return known
        if len(self.fields) >= MOST_FIELDS:
            self.fields.clear()
        field = self.fields[tenant, shape] = prepare(shape, offers, rules)
        return field

    def _opening(self, admitted: Admitted) -> Opening:
        asked = admitted.asked
        question = Question(asked.size, asked.max_tokens)
        return Opening(
            call=admitted.call,
            decision=admitted.decision,
            turn=asked.turn,
            scopes=admitted.scopes,
            most=most_of(question, admitted.offer),
            context_hash=context_hash(asked, admitted.decision),
            catalogue=admitted.field.catalogue,
        )


def context_hash(asked: Asked, decision: Decision) -> str:
    """SHA-256 over what the question was like and by what it was decided, in hex: the same for equal questions."""
    shape, d = asked.shape, decision
    looked_at = (
        shape.tier, sorted(shape.needs), shape.hints, sorted(shape.models), asked.size.total, asked.max_tokens,
        asked.task_class, tuple(d.features), d.policy, d.prices, d.mode,
    )  # fmt: skip
    return hashlib.sha256(repr(looked_at).encode()).hexdigest()


def chosen(field: Field, decision: Decision) -> Offer:
    """The offer that the decision is for."""
    key = (decision.provider, decision.model)
    return next(plan.offer for plan in field.plans if plan.offer.key == key)
