"""Other canvas rooms: what is written here they are told, and what they write is heard, through Valkey. Rounds through
Postgres find what nobody told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from services.canvas.bells import Bells
from services.canvas.looking import states
from services.common.cache import Cache
from services.common.caller import Caller
from services.common.db import Database
from services.common.errors import Refusal, Unavailable
from services.common.telemetry import log

PATTERN = "{*}:canvas:*"
PATIENCE_S = 0.5
PAUSE_S = 1.0
MOST_NEWS = 1000
ROUND_S = 1.0
ROUNDS_APART = 5
"""While Valkey tells what is written, one round in so many is enough."""


@dataclass(slots=True)
class Others:
    db: Database
    cache: Cache
    bells: Bells
    me: bytes
    """Which room this is: what it hears of itself it knows."""
    heard: bool = False
    """What others write is heard now."""
    _news: dict[str, None] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, tenant: str, conversation: UUID) -> None:
        """Something was written here. Told soon, if it can be."""
        self._news[channel_of(tenant, conversation)] = None
        self._some.set()

    async def speak(self) -> None:
        """Tell what is to be told, until cancelled. What cannot be told now is told later, but not more than a
        thousand: there are rounds."""
        while True:
            await self._some.wait()
            self._some.clear()
            news, self._news = self._news, {}
            try:
                async with asyncio.timeout(PATIENCE_S):
                    for channel in tuple(news):
                        await self.cache.publish(channel, self.me)
                        del news[channel]
            except (Unavailable, TimeoutError):
                await asyncio.sleep(PAUSE_S)
                self._news = dict.fromkeys(islice((*news, *self._news), MOST_NEWS))
                self._some.set()

    async def listen(self) -> None:
        """Ring for what others write, until cancelled."""
        while True:
            try:
                async with self.cache.listening(PATTERN) as news:
                    self.heard = True
                    self.bells.ring_all()
                    async for channel, room in news:
                        if room != self.me:
                            self._ring(channel)
            except Unavailable:
                if self.heard:
                    log().warning("other rooms are not heard: Valkey is away")
            finally:
                self.heard = False
            await asyncio.sleep(PAUSE_S)

    def _ring(self, channel: str) -> None:
        tenant, _, conversation = channel.partition("}:canvas:")
        try:
            self.bells.ring_here(tenant.removeprefix("{"), UUID(conversation))
        except ValueError:
            log().warning("not a canvas", channel=channel[:200])

    async def rounds(self) -> None:
        """Look at every canvas that is watched, until cancelled: once a second when others are not heard."""
        turn = 0
        while True:
            await asyncio.sleep(ROUND_S)
            turn += 1
            if self.heard and turn % ROUNDS_APART:
                continue
            try:
                for tenant in list(self.bells.hung):
                    await self._round(tenant)
            except Refusal as refusal:
                log().warning("no round", reason=refusal.reason)

    async def _round(self, tenant: str) -> None:
        """Ring where a canvas has come further than who watches it, and where it is gone."""
        async with self.db.upkeep(Caller.system("canvas", tenant)) as tx:
            now = await states(tx, self.bells.hung.get(tenant, {}))
        for conversation, bells in self.bells.hung.get(tenant, {}).items():
            for bell in bells:
                if now.get(conversation) != bell.seen:
                    bell.ring()


def channel_of(tenant: str, conversation: UUID) -> str:
    return f"{{{tenant}}}:canvas:{conversation}"
