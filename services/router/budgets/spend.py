"""What was spent, summed from the ledger."""

from __future__ import annotations

from datetime import datetime

from services.common.db import Record, Transaction
from soma.router.v1.budget_service_pb2 import ListSpendRequest, ListSpendResponse, Spend

MOST = 1000
FIGURES = ("cost_microusd", "input_tokens", "output_tokens", "requests", "overrun_microusd", "lost_microusd")

SUMS = """
WITH sums AS (
    SELECT CASE $2 WHEN 'model' THEN provider || '/' || model WHEN 'provider' THEN provider WHEN 'tier' THEN tier
                   WHEN 'user' THEN subject WHEN 'team' THEN team WHEN 'conversation' THEN conversation
                   WHEN 'task' THEN task WHEN 'key' THEN key
                   WHEN 'day' THEN to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                   ELSE to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"') END AS of,
           sum(microusd + overrun_microusd) AS cost_microusd, sum(input_tokens) AS input_tokens,
           sum(output_tokens) AS output_tokens, sum(requests) AS requests, sum(overrun_microusd) AS overrun_microusd,
           sum(lost_microusd) AS lost_microusd
    FROM soma.ledger
    WHERE tenant = $1 AND kind <> 'hold' AND time >= coalesce($3::timestamptz, now() - interval '30 days')
        AND time < coalesce($4::timestamptz, 'infinity') AND ($5 = '' OR subject = $5)
        AND ($6 = '' OR provider || '/' || model = $6) AND ($7 = '' OR key = $7)
    GROUP BY 1
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY of = '', cost_microusd DESC, of) <= $8 AND of <> '' AS is_large FROM sums
)
SELECT CASE WHEN is_large THEN of ELSE '' END AS of, sum(cost_microusd)::bigint AS cost_microusd,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(requests)::bigint AS requests, sum(overrun_microusd)::bigint AS overrun_microusd,
    greatest(0, sum(lost_microusd))::bigint AS lost_microusd
FROM ranked GROUP BY 1 ORDER BY 2 DESC, 1
"""


async def summed(
    tx: Transaction, request: ListSpendRequest, since: datetime | None, until: datetime | None
) -> ListSpendResponse:
    by = request.by or "model"
    filters = (request.user, request.model, request.key)
    rows = await tx.fetch(SUMS, tx.caller.tenant, by, since, until, *filters, MOST)
    total = Spend(**{name: sum(row[name] for row in rows) for name in FIGURES})
    return ListSpendResponse(spend=[as_spend(row) for row in rows], total=total)


def as_spend(row: Record) -> Spend:
    return Spend(of=row["of"], **{name: row[name] for name in FIGURES})
