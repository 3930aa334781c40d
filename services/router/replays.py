"""A decision made again from what was recorded of it."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.caller import Caller
from services.common.db import Database
from services.router.decide import replay
from services.router.names import decision_id, no_decision
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import ReplayDecisionResponse

READ = "SELECT subject, decision FROM decisions WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Replays:
    db: Database

    async def replay(self, caller: Caller, name: str) -> ReplayDecisionResponse:
        """Raises NotFound DECISION_UNKNOWN, for another person's too."""
        async with self.db.tenant(caller) as tx:
            row = await tx.fetchrow(READ, decision_id(name))
        if row is None or row["subject"] != caller.subject:
            raise no_decision(name)
        recorded = Decision.FromString(row["decision"])
        again = replay(recorded)
        return ReplayDecisionResponse(recorded=recorded, replayed=again, same=bytes_of(again) == row["decision"])


def bytes_of(decision: Decision) -> bytes:
    """As the ledger writes it."""
    return decision.SerializeToString()
