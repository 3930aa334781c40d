"""Keeps how good an answer was, and tells the log of it: what learns reads it there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.common import events
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Denied, Invalid
from services.common.once import once
from services.router.feedback import store
from services.router.names import decision_id, decision_name, no_decision
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.router.v1.feedback_pb2 import Feedback
from soma.router.v1.feedback_service_pb2 import GiveFeedbackRequest

KEPT = timedelta(days=30)
FOR_OTHERS = frozenset({"admin", "operator"})
THUMBS = {"up": 1.0, "down": 0.0}


@dataclass(frozen=True, slots=True)
class Feedbacks:
    """One transaction a deed."""

    db: Database

    async def give(self, caller: Caller, request: GiveFeedbackRequest) -> Feedback:
        """Raises NotFound DECISION_UNKNOWN, Precondition DECISION_EXPIRED, Denied ROLE_REFUSED, Invalid
        REQUEST_INVALID for neither or both of decision and turn, or of score and thumb."""
        said = checked(caller, request.feedback)
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Feedback) as answer:
            if answer.known:
                return answer.known
            row = await self._decision(tx, caller, said)
            said.decision, said.turn = decision_name(row.id), row.turn
            tx.about(said.decision)
            first, now = await store.keep(tx, row.id, said, tx.clock.now())
            said.create_time.FromDatetime(first)
            said.update_time.FromDatetime(now)
            await events.append(tx, told(row, said), person=row.subject)
            return answer.keep(said)

    async def _decision(self, tx: Transaction, caller: Caller, said: Feedback) -> store.Decided:
        row = await store.by_turn(tx, said.turn) if said.turn else await store.by_id(tx, decision_id(said.decision))
        if row is None or (said.source == "person" and row.subject != caller.subject):
            raise no_decision(said.decision or said.turn)
        if row.create_time + KEPT < tx.clock.now():
            raise store.expired(row)
        return row


def checked(caller: Caller, given: Feedback) -> Feedback:
    """What was given, with its score and source. `thumb` stays as it was said."""
    said = Feedback(decision=given.decision, turn=given.turn, thumb=given.thumb, source=given.source or "person")
    if bool(given.decision) == bool(given.turn):
        raise Invalid("REQUEST_INVALID", "Say which answer is meant: its decision, or its turn.", field="decision")
    if given.HasField("score") == bool(given.thumb):
        raise Invalid("REQUEST_INVALID", "Say how good it was: by a score from 0 to 1, or by a thumb.", field="score")
    if said.source != "person" and not caller.roles & FOR_OTHERS:
        raise Denied("ROLE_REFUSED", f"To speak as {said.source} needs the role admin or operator.")
    said.score = THUMBS[given.thumb] if given.thumb else given.score
    return said


def told(row: store.Decided, said: Feedback) -> RoutingEvent:
    return RoutingEvent(
        type="routing.feedback",
        decision=str(row.id),
        turn=row.turn or None,
        requested_tier=row.requested_tier,
        provider=row.provider,
        model=row.model,
        tier=row.tier,
        feedback=repr(said.score),
        source=said.source,
    )
