"""Whose API key it is. What Postgres said is believed for half a second, so that a revoked key is dead within one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from services.common.api_keys import hash_of, is_whole
from services.common.caller import Caller
from services.common.db import Database
from services.common.errors import Exhausted, Unauthenticated, Unavailable
from services.router.keys import store
from soma.router.v1.key_pb2 import Key

T = TypeVar("T")

BELIEVED_S = 0.5
REMEMBERED = 4096
ASKING = 4
"""Questions to Postgres at once: guesses do not take its connections from those who work."""
WAITING = 1024
WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a secret."""

    tenant: str
    key: Key
    until: float
    """On the monotonic clock: from when it was asked, not from when it was answered."""


@dataclass(slots=True)
class Ring:
    """Bounded in memory: as many good keys, and as many that nobody has, so that guesses push no good one out."""

    db: Database
    monotonic: Callable[[], float] = time.monotonic
    remembered: int = REMEMBERED
    _good: OrderedDict[bytes, Known] = field(default_factory=OrderedDict)
    _nobodys: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    _asking: dict[bytes, asyncio.Future[Known | None]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKING))

    async def caller(self, secret: str) -> Caller:
        """The person of the key. Raises Unauthenticated TOKEN_REFUSED for one that is not good, Unavailable
        STORE_UNAVAILABLE or Exhausted ROOM_BUSY when nobody can say."""
        if not is_whole(secret):
            raise refused("This is no API key: it was cut or mistyped")
        hash = hash_of(secret)
        known = self._good.get(hash)
        if known is None or known.until <= self.monotonic():
            known = await self._find(hash)
        if known is None:
            raise refused("This API key is not known here")
        check_good(known.key, self.db.clock.now())
        return caller_of(known)

    async def _find(self, hash: bytes) -> Known | None:
        """All who ask at once for one share a question."""
        if self._nobodys.get(hash, 0.0) > self.monotonic():
            return None
        asking = self._asking.get(hash)
        if asking is None:
            if len(self._asking) >= WAITING:
                raise Exhausted("ROOM_BUSY", "Too many unknown API keys are shown. Try again soon.", retry_after_s=1)
            asking = self._asking[hash] = asyncio.ensure_future(self._ask(hash))
            asking.add_done_callback(lambda done: self._answered(hash, done))
        return await asyncio.shield(asking)

    def _answered(self, hash: bytes, done: asyncio.Future[Known | None]) -> None:
        del self._asking[hash]
        if not done.cancelled():
            done.exception()  # it was told to whoever still waited

    async def _ask(self, hash: bytes) -> Known | None:
        try:
            async with asyncio.timeout(WAIT_S), self._turns:
                until = self.monotonic() + BELIEVED_S
                row = await store.key_with(self.db, hash)
        except TimeoutError as fault:
            message = "Whose API key it is cannot be asked now. Try again in a moment."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1) from fault
        if row is None:
            self._good.pop(hash, None)
            remember(self._nobodys, hash, until, self.remembered)
            return None
        known = Known(row["tenant"], store.as_key(row), until)
        remember(self._good, hash, known, self.remembered)
        return known


def remember(among: OrderedDict[bytes, T], hash: bytes, what: T, most: int) -> None:
    among[hash] = what
    among.move_to_end(hash)
    if len(among) > most:
        among.popitem(last=False)


def check_good(key: Key, now: datetime) -> None:
    if key.HasField("revoke_time"):
        raise refused("This API key was revoked")
    if key.HasField("expire_time") and key.expire_time.ToSeconds() <= now.timestamp():
        raise refused("This API key has expired")


def caller_of(known: Known) -> Caller:
    key = known.key
    return Caller(
        known.tenant, key.person, frozenset({"member"}), frozenset(), team=key.team, key=key.name,
        models=frozenset(key.models),
    )  # fmt: skip


def refused(why: str) -> Unauthenticated:
    return Unauthenticated("TOKEN_REFUSED", f"{why}. Ask an admin of your tenant for another.")
