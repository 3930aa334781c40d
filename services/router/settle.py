"""Brings what an answer cost to the books, also when nobody waits for it any more or Postgres is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.common.call import Call
from services.common.errors import Denied, Exhausted, Unavailable
from services.common.telemetry import log
from services.router.store import Settlement

TRY_FOR_S = 120.0
PAUSE_S = 0.5
WAIT_S = 2.0
MOST_PENDING = 4096


@dataclass(frozen=True, slots=True)
class Settlements:
    """Settlements under way. Each is tried for two minutes; one that cannot be written stands in the log."""

    write: Callable[[Call, Settlement], Awaitable[None]]
    try_for_s: float = TRY_FOR_S
    pending: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, call: Call, settlement: Settlement) -> asyncio.Task[None]:
        """Settle beside the call, so that a caller who hangs up does not stop it."""
        once = len(self.pending) >= MOST_PENDING
        task = asyncio.create_task(self._settle(call, settlement, 0.0 if once else self.try_for_s), name="settle")
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)
        return task

    async def wait(self, task: asyncio.Task[None]) -> None:
        """Until it is settled, for two seconds at most: then the answer ends and the settlement goes on."""
        await asyncio.wait([task], timeout=WAIT_S)

    async def drain(self, within_s: float) -> None:
        """Wait for all; what is then still open is given up and stands in the log."""
        if self.pending:
            await asyncio.wait(set(self.pending), timeout=within_s)
        for task in set(self.pending):
            task.cancel()

    async def _settle(self, call: Call, settlement: Settlement, try_for_s: float) -> None:
        give_up_at = asyncio.get_running_loop().time() + try_for_s
        try:
            while not await self._try(call, settlement):
                if asyncio.get_running_loop().time() >= give_up_at:
                    return report(call, settlement)
                await asyncio.sleep(PAUSE_S)
        except asyncio.CancelledError:
            report(call, settlement)
            raise
        except Exception as fault:
            log().error("settling failed", exc_info=fault)
            report(call, settlement)

    async def _try(self, call: Call, settlement: Settlement) -> bool:
        try:
            await self.write(call, settlement)
        except (Unavailable, Exhausted):
            return False
        except Denied:  # a tenant that this mesh does not serve has no books
            return True
        return True


def report(call: Call, settlement: Settlement) -> None:
    """The facts that could not be written, so that they can be entered later."""
    outcome = settlement.outcome
    log().error(
        "not settled",
        tenant=call.caller.tenant,
        decision=settlement.decision.id,
        provider=settlement.decision.provider,
        model=settlement.decision.model,
        input_tokens=outcome.usage.input_tokens,
        output_tokens=outcome.usage.output_tokens,
        cost_microusd=outcome.cost_microusd,
    )
