"""The books: a call is admitted, held for and settled here, and nowhere else. Whatever happens to whom, what is settled
and held is never above a budget's cap, and what is held for a call that nobody runs any more is let go of.

Postgres decides, under a lock of the tenant's and by its own clock (migrations/control). Entries of a tenant that come
while a transaction is under way go into the next one together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from services.common.call import Call
from services.common.db import Database
from services.common.errors import Refusal, Unavailable
from services.common.telemetry import Sight, log
from services.router.budgets.entries import Admit, Entry, Move, Opening, Renew, Settle
from services.router.budgets.ledger import Booked, Ledger
from services.router.budgets.queue import Queue, Write
from services.router.budgets.room import Room, Scopes
from services.router.settle import Settlements
from services.router.store import Settlement

__all__ = ["Books", "Opening"]

LEASE_S = 30.0
RENEWALS = 3
"""How often a lease is renewed in its time."""
SWEEP_S = 60.0
TIDY_S = 3600.0
WAIT_S = 20.0
AT_ONCE = 8
"""Transactions under way: reads of the room need connections too."""
MOST_RENEWED = 1000
"""In one entry."""


@dataclass(slots=True)
class Rounds:
    """When what is done from time to time was done last, on the monotonic clock."""

    swept: float = field(default_factory=time.monotonic)
    tidied: float = field(default_factory=time.monotonic)


class Books:
    """`lease_s` is how long a hold lasts that is not renewed. `sight` counts what fitted no budget."""

    def __init__(self, db: Database, sight: Sight | None = None, *, lease_s: float = LEASE_S) -> None:
        self._ledger, self._sight, self._lease_s = Ledger(db, timedelta(seconds=lease_s)), sight, lease_s
        self._settlements = Settlements(self._settle)
        self._queues: dict[str, Queue] = {}
        self._running: dict[str, set[str]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._rounds = Rounds()

    async def admit(self, opening: Opening) -> Room | None:
        """None: admitted, written down and held. A Room: refused, nothing was written; what is left of each budget that
        the call falls under. Raises Unavailable STORE_UNAVAILABLE, Exhausted ROOM_BUSY, Denied TENANT_UNKNOWN: who is
        cancelled or sees such an end settles the call, since it may have been written all the same."""
        booked = await self._put(opening.call, Admit(opening))
        if booked.outcome in ("short", "over"):
            return booked.room
        self._running.setdefault(opening.call.caller.tenant, set()).add(opening.decision.id)
        return None

    async def move(self, opening: Opening) -> Room | None:
        """Another model takes over: the hold becomes what that can cost. A Room: it does not fit, and the hold is as it
        was. Raises what `admit` raises."""
        booked = await self._put(opening.call, Move(opening))
        return booked.room if booked.outcome in ("short", "over") else None

    def settle(self, call: Call, settlement: Settlement) -> asyncio.Task[None]:
        """Book what the call used, beside it: once, however often it is asked for. A call that was never admitted is
        left alone. Tried for two minutes while Postgres is away; then it stands in the log, and the hold expires."""
        settling = self._settlements.begin(call, settlement)
        running = self._running.setdefault(call.caller.tenant, set())
        settling.add_done_callback(lambda _: running.discard(settlement.decision.id))
        return settling

    async def wait(self, settling: asyncio.Task[None]) -> None:
        """Until it is settled, for two seconds at most."""
        await self._settlements.wait(settling)

    async def drain(self, within_s: float) -> None:
        """Wait for all settlements; what is then still open is given up and stands in the log."""
        await self._settlements.drain(within_s)

    async def room(self, call: Call, scopes: Scopes) -> Room:
        """What is left now of each budget. Reads only. Raises Unavailable STORE_UNAVAILABLE, Denied TENANT_UNKNOWN."""
        return await self._ledger.room(call.caller, scopes)

    async def keep(self) -> None:
        """Renew the leases of running calls, and from time to time let go of others' that have expired, until
        cancelled. While Postgres is away it is tried again soon."""
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._go_rounds())
            while True:
                done = await self._renew_all(beside)
                await asyncio.sleep(self._lease_s / RENEWALS / (1 if done else 10))

    async def _renew_all(self, beside: asyncio.TaskGroup) -> bool:
        """Whether all were. What waits for long in one tenant's books keeps its turn there, and nobody else waits."""
        tenants = [(tenant, sorted(calls)) for tenant, calls in self._running.items() if calls]
        renewals = [
            beside.create_task(self._upkeep(tenant, calls[i : i + MOST_RENEWED]))
            for tenant, calls in tenants
            for i in range(0, len(calls), MOST_RENEWED)
        ]
        if not renewals:
            return True
        done, late = await asyncio.wait(renewals, timeout=self._lease_s / RENEWALS)
        return not late and all(one.result() for one in done)

    async def _go_rounds(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            await self._go_round()

    async def _go_round(self) -> None:
        now = time.monotonic()
        try:
            if now - self._rounds.swept >= SWEEP_S:
                self._rounds.swept = now
                for tenant in await self._ledger.tenants_with_expired_holds():
                    await self._upkeep(tenant, [])
            if now - self._rounds.tidied >= TIDY_S:
                self._rounds.tidied = now
                for tenant in list(self._running):
                    await self._ledger.tidy(tenant)
        except Refusal as away:
            log().warning("books not tidied", why=away.message)
        except Exception as fault:  # the leases do not end with it
            log().error("books not tidied", exc_info=fault)

    async def _upkeep(self, tenant: str, calls: list[str]) -> bool:
        try:
            await self._queue(tenant).put(Renew(calls))
        except Refusal as refusal:
            log().warning("leases not renewed", tenant=tenant, why=refusal.message)
            return False
        except Exception as fault:  # the leases of other tenants do not end with it
            log().error("leases not renewed", tenant=tenant, exc_info=fault)
            return False
        return True

    async def _settle(self, call: Call, settlement: Settlement) -> None:
        booked = await self._put(call, Settle(call, settlement))
        if booked.overrun_microusd or booked.overrun_tokens:
            self._report_overrun(call, settlement, booked)

    def _report_overrun(self, call: Call, settlement: Settlement, booked: Booked) -> None:
        decision = settlement.decision
        if self._sight:
            self._sight.overrun.labels(decision.provider).inc(booked.overrun_microusd)
        log().warning(
            "cost more than was held",
            tenant=call.caller.tenant,
            decision=decision.id,
            provider=decision.provider,
            model=decision.model,
            overrun_microusd=booked.overrun_microusd,
            overrun_tokens=booked.overrun_tokens,
        )

    async def _put(self, call: Call, entry: Entry) -> Booked:
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._queue(call.caller.tenant).put(entry)
        except TimeoutError as late:
            message = "The database does not answer. Try again in a moment."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1) from late

    def _queue(self, tenant: str) -> Queue:
        if tenant not in self._queues:
            self._queues[tenant] = Queue(self._writer(tenant))
        return self._queues[tenant]

    def _writer(self, tenant: str) -> Write:
        async def write(entries: Sequence[Entry]) -> list[Booked | ValueError]:
            async with self._gate:
                return await self._ledger.write(tenant, entries)

        return write
