"""Which model answers, and why. Pure: the same question, offers and figures give the same decision.

`prepare` closes what no figure can open: by tier, mode, policy, hints, jurisdiction and capability. `decide` closes by
what moves: context, health, queue, hints in money and time, budgets. The requested tier is tried first, then each one
below it; "auto" takes all tiers as one. Inside a tier the choice is `choose`'s. All that the choice rests on stands in
the decision, so that `replay` makes it again.
"""

from __future__ import annotations

import uuid

from services.router.decide.choose import choose, next_after, replay
from services.router.decide.examine import examine, most_of
from services.router.decide.field import Field, in_order, prepare
from services.router.decide.question import AUTO, DEFAULT_TIER, Moment, Question, Shape
from services.router.decide.refuse import refusal
from soma.common.v1.model_pb2 import Decision

__all__ = [
    "AUTO", "DEFAULT_TIER", "Field", "Moment", "Question", "Shape", "decide", "most_of", "next_after",
    "prepare", "replay",
]  # fmt: skip


def decide(question: Question, field: Field, moment: Moment, id: uuid.UUID) -> Decision:
    """The decision, with every offer among its candidates. Raises Exhausted MODEL_BUSY or BUDGET_SPENT, Invalid
    CONTEXT_TOO_LONG, Unavailable MODEL_UNAVAILABLE: the first for which something would be open but for it."""
    decision = Decision()
    decision.CopyFrom(field.begun)
    decision.id, decision.prices, decision.mode, decision.draw = str(id), moment.prices, moment.mode, moment.draw
    decision.features.extend(question.features)
    open_, shut = examine(question, field, moment)
    if not choose(decision, open_, in_order([*shut, *field.closed]) if shut else field.closed, field.rules.weights):
        raise refusal(question, field, moment, shut)
    return decision
