"""Turns whose agent died: their lease runs out, and whoever looks first ends them with INTERRUPTED."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from services.agent import store, told
from services.agent.feed import Feed, key_of, recall
from services.agent.names import turn_ids, turn_name
from services.common import events
from services.common.cache import Cache
from services.common.caller import Caller
from services.common.db import Database, Record
from services.common.errors import Refusal
from services.common.telemetry import log
from soma.agent.v1.chat_event_pb2 import ChatEvent, Transcript
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage

LOOK_S = 1.0
DIED = Failure(
    reason="INTERRUPTED", message="The agent that answered went away in mid-answer. Ask again.", retryable=True
)


@dataclass(frozen=True, slots=True)
class Orphans:
    db: Database
    cache: Cache
    ours: Collection[UUID] = ()
    """Turns that run in this room: they hold their leases themselves, however long the room stood still."""

    async def watch(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            try:
                for tenant, turn in await store.expired(self.db):
                    await self._try_to_end(tenant, turn)
            except Refusal as refusal:
                log().warning("cannot look for orphaned turns", reason=refusal.reason)
            await asyncio.sleep(LOOK_S)

    async def _try_to_end(self, tenant: str, turn: str) -> None:
        """One that cannot be ended does not keep the others from their end."""
        try:
            ids = turn_ids(turn)
            if ids[1] not in self.ours:
                await self.end(tenant, ids)
        except Exception as fault:
            log().error("orphaned turn not ended", turn=turn, exc_info=fault)

    async def end(self, tenant: str, ids: tuple[UUID, UUID]) -> None:
        """End one turn as the room itself. Its text is what Postgres kept and what Valkey has beyond it. The event
        is one of its person's; the audit trail says who ended it."""
        caller = Caller.system("agent", tenant)
        async with self.db.tenant(caller, action="turn.interrupted") as tx:
            row = await store.take_orphan(tx, ids)
            if row is None:
                tx.about_nothing()
                return
            tx.about(turn_name(*ids))
            said, _ = await recall(self.cache, key_of(tenant, ids[1]), Transcript.FromString(row["events"]).events)
            ended = interrupted(row, said)
            await store.end_turn(tx, ids, "", ended, tx.clock.now())
            await events.append(tx, told.ended(ids, ended), text=ended.answer, person=row["subject"])
        await Feed(self.cache, key_of(tenant, ids[1]), published=len(said)).publish(ended.transcript.events[-1:])
        log().warning("turn interrupted", turn=turn_name(*ids))


def interrupted(row: Record, said: list[ChatEvent]) -> store.Ended:
    last = ChatEvent(sequence=len(said) + 1, error=DIED)
    decision = Decision.FromString(row["decision"] or b"")
    for event in said:
        if event.HasField("decision"):
            decision = event.decision
    return store.Ended(
        state="failed",
        answer="".join(event.text.delta for event in said if event.HasField("text")),
        transcript=Transcript(events=[*said, last]),
        decision=decision,
        usage=Usage(),
        cost_microusd=0,
        finish_reason="",
        error=DIED,
        first_token_ms=0,
    )
