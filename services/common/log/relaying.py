"""What the relay and the engines agree on: who leads a shard, and what becomes of rows that no log takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.common.db import Transaction
from services.common.log.log import Shard
from services.common.outbox import LONGEST_EVENT

BATCH_S = 15.0
"""A batch takes no longer: Postgres ends its transaction, and with it the lead of one who stands still."""
LEAD = 0x50A6  # any number, the same for all relays

NO_TOPIC = "There is no such topic."
TOO_LONG = f"It takes more than {LONGEST_EVENT} bytes."
"""Why a row goes aside before a log has seen it."""

TRY_TO_LEAD = """
SELECT pg_try_advisory_xact_lock($1, $2), set_config('transaction_timeout', $3, true),
       set_config('lock_timeout', $3, true)
"""
SET_ASIDE = """
WITH refused AS (DELETE FROM soma.outbox WHERE seq = ANY ($1::bigint[])
    RETURNING seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time)
INSERT INTO soma.outbox_aside (seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent,
    create_time, reason) SELECT refused.*, $2 FROM refused
"""
PUT_BACK = """
WITH back AS (DELETE FROM soma.outbox_aside
    RETURNING seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time)
INSERT INTO soma.outbox (seq, id, aggregatetype, aggregateid, type, payload, tenant, slot, traceparent, create_time)
OVERRIDING SYSTEM VALUE SELECT * FROM back
"""


async def lead(tx: Transaction, shard: Shard, batch_s: float = BATCH_S) -> bool:
    """Whether this transaction leads the shard until it ends, which it does after `batch_s` in any case."""
    row: Any = await tx.fetchrow(TRY_TO_LEAD, LEAD, shard.number, f"{batch_s * 1000:.0f}ms")
    return bool(row[0])


async def set_aside(tx: Transaction, seqs: Sequence[int], reason: str) -> None:
    """Take rows out of the way of the others. They are kept, with the reason."""
    await tx.execute(SET_ASIDE, seqs, reason)


async def put_back(tx: Transaction) -> None:
    """Give rows that were set aside another chance, in their old order."""
    await tx.execute(PUT_BACK)
