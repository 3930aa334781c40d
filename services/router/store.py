"""Decisions in Postgres. Many are written at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.call import Call
from services.common.db import Transaction
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.routing_pb2 import Outcome

INSERT = """
INSERT INTO decisions (id, subject, turn, requested_tier, provider, model, tier, decision, context_hash, create_time)
SELECT *, now() FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                            $8::bytea[], $9::text[])
ON CONFLICT DO NOTHING
"""
SETTLE = """
UPDATE decisions d SET provider = s.provider, model = s.model, tier = s.tier, decision = s.decision,
    input_tokens = s.input_tokens, output_tokens = s.output_tokens, estimated = s.estimated,
    cost_microusd = s.cost_microusd, first_token_ms = s.first_token_ms, finish_reason = s.finish_reason,
    reason = s.reason, settle_time = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[], $7::bigint[], $8::boolean[],
            $9::bigint[], $10::bigint[], $11::text[], $12::text[])
    AS s (id, provider, model, tier, decision, input_tokens, output_tokens, estimated, cost_microusd, first_token_ms,
          finish_reason, reason)
WHERE d.id = s.id AND d.settle_time IS NULL
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an answer ended, ready to be written down."""

    turn: str
    decision: Decision
    outcome: Outcome
    finish_reason: str
    """The outcome's, or "cancelled" when nobody waited for the end."""


async def add(tx: Transaction, decided: Iterable[tuple[Call, Decision, str, str]]) -> None:
    """Write decisions down: each with its call, turn and context hash."""
    rows = [
        (d.id, call.caller.subject, turn, d.requested_tier, d.provider, d.model, d.tier, d.SerializeToString(), context)
        for call, d, turn, context in decided
    ]
    if rows:
        await tx.execute(INSERT, *columns(rows))


async def complete(tx: Transaction, settlements: Iterable[Settlement]) -> None:
    """Write down how they ended. One that is complete stays as it is."""
    rows = [
        (
            d.id, d.provider, d.model, d.tier, d.SerializeToString(), o.usage.input_tokens, o.usage.output_tokens,
            o.usage.estimated, o.cost_microusd, o.first_token_ms, s.finish_reason, o.failure.reason,
        )
        for s in settlements for d, o in ((s.decision, s.outcome),)
    ]  # fmt: skip
    if rows:
        await tx.execute(SETTLE, *columns(rows))


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
