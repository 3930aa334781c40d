"""A running turn's events in Valkey, so that any agent can serve those who watch. Its absence stops nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.common.cache import Cache
from services.common.errors import Unavailable
from soma.agent.v1.chat_event_pb2 import ChatEvent

KEEP_S = 3600
PATIENCE_S = 0.5
PAUSES_S = (1.0, 5.0, 15.0)


def key_of(tenant: str, turn: UUID) -> str:
    return f"{{{tenant}}}:turn:{turn}:events"


@dataclass(slots=True)
class Feed:
    """Where one turn's events go. After a failure it rests, longer each time, then catches up."""

    cache: Cache
    key: str
    published: int = 0
    """The number of the last event that is there."""
    _waiting: list[bytes] = field(default_factory=list, init=False)
    _rest_until: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)

    async def publish(self, events: Sequence[ChatEvent]) -> None:
        """Append the events that follow, with those that could not be appended before."""
        self._waiting += [event.SerializeToString() for event in events]
        if not self._waiting or time.monotonic() < self._rest_until:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                keep_s = 0 if self.published else KEEP_S
                await self.cache.append(self.key, self.published + 1, self._waiting, keep_s=keep_s)
        except (Unavailable, TimeoutError):
            self._rest_until = time.monotonic() + PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
            self._failures += 1
        else:
            self.published, self._waiting, self._failures = self.published + len(self._waiting), [], 0


async def recall(cache: Cache, key: str, kept: Sequence[ChatEvent]) -> tuple[list[ChatEvent], bool]:
    """The events of a turn as far as anyone can know: those kept in Postgres, then what Valkey has beyond them; and
    whether Valkey could be asked."""
    events = list(kept)
    try:
        for number, raw in await cache.after(key, len(events)):
            if number == len(events) + 1:
                events.append(ChatEvent.FromString(raw))
    except Unavailable:
        return events, False
    return events, True
