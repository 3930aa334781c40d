"""Watching a turn that does not run here: from Postgres what was kept, from Valkey what comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from services.agent import store
from services.agent.feed import key_of, recall
from services.agent.names import no_turn, turn_name
from services.agent.transcript import HEARTBEAT, HEARTBEAT_S
from services.common.cache import Cache
from services.common.caller import Caller
from services.common.db import Database
from services.common.errors import Invalid, Unavailable
from soma.agent.v1.chat_event_pb2 import ChatEvent

WATCH_S = 360.0
"""Longer than any turn."""
LOOK_S = 1.0
PAUSE_S = 0.25
LAST = ("done", "error")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Turns that have ended, or run in another agent."""

    db: Database
    cache: Cache

    async def watch(self, caller: Caller, ids: tuple[UUID, UUID], after: int) -> AsyncIterator[ChatEvent]:
        """Events numbered above `after`, to the last. Raises NotFound TURN_UNKNOWN, Invalid SEQUENCE_UNKNOWN."""
        key, seen, quiet_since, checked = key_of(caller.tenant, ids[1]), after, time.monotonic(), False
        async with asyncio.timeout(WATCH_S):
            while True:
                said = await self.said(caller, ids)
                if said is None:
                    raise no_turn(turn_name(*ids))
                running, kept = said
                known, is_all = await recall(self.cache, key, kept) if running else (kept, True)
                if not is_all and after > len(known):  # what Valkey knows comes with a checkpoint
                    await asyncio.sleep(LOOK_S)
                    continue
                if not checked:
                    check_sequence(after, len(known))
                    checked = True
                    if running and after == len(known):
                        yield HEARTBEAT
                for event in known[seen:]:
                    seen, quiet_since = event.sequence, time.monotonic()
                    yield event
                if not running:
                    return
                async for event in self._live(key, seen):
                    seen, quiet_since = event.sequence, time.monotonic()
                    yield event
                    if event.WhichOneof("event") in LAST:
                        return
                if time.monotonic() - quiet_since > HEARTBEAT_S:
                    quiet_since = time.monotonic()
                    yield HEARTBEAT

    async def said(self, caller: Caller, ids: tuple[UUID, UUID]) -> tuple[bool, list[ChatEvent]] | None:
        """Whether the turn still runs, and what Postgres kept of it. None when it is not the caller's."""
        async with self.db.upkeep(caller) as tx:
            return await store.said(tx, ids)

    async def _live(self, key: str, seen: int) -> AsyncIterator[ChatEvent]:
        """What Valkey has next, for as long as it goes on without a gap or a second's pause."""
        try:
            while entries := await self.cache.after(key, seen, wait_s=LOOK_S):
                for number, raw in entries:
                    if number != seen + 1:
                        await asyncio.sleep(PAUSE_S)  # what Valkey lost comes with the next checkpoint
                        return
                    seen = number
                    yield ChatEvent.FromString(raw)
        except Unavailable:
            await asyncio.sleep(LOOK_S)


def check_sequence(after: int, last: int) -> None:
    """Raise Invalid SEQUENCE_UNKNOWN beyond the last event."""
    if after > last:
        message = f"The turn has {last} events; there is nothing after {after} yet. Watch from 0."
        raise Invalid("SEQUENCE_UNKNOWN", message, last_sequence=str(last))
