"""The budget that a key is made with."""

from __future__ import annotations

from services.common.clock import new_id
from services.common.db import Transaction
from soma.router.v1.key_pb2 import Key

ADD = """
INSERT INTO soma.budgets (tenant, id, scope, whose, period, rolling, tier, microusd)
VALUES ($1, $2, 'key', $3, 'total', false, '', $4)
"""


async def bound(tx: Transaction, key: Key) -> None:
    """Bound what the key may cost in all, in the transaction that makes it. Nothing was spent with it before."""
    if key.HasField("budget_microusd"):
        id = new_id()
        await tx.execute(ADD, tx.caller.tenant, id, key.name, key.budget_microusd)
        await tx.audit("budget.created", resource=f"budgets/{id}")
