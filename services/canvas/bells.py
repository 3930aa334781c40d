"""Who in this room watches which canvas, and how they are woken. Pure: rung by what is written here, by what is heard
of other rooms, and by the rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

from services.common.errors import Exhausted, Unavailable


class Bell:
    """One watch. Rung: there may be something new."""

    __slots__ = ("_rung", "seen")

    def __init__(self) -> None:
        self.seen = 0
        """The revision that this watch has come to."""
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether it was rung before the time was over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


@dataclass(slots=True)
class Bells:
    most: int
    """How many may watch at once."""
    hung: dict[str, dict[UUID, set[Bell]]] = field(default_factory=dict)
    """By tenant and conversation."""
    count: int = 0
    closing: bool = False
    tell: Callable[[str, UUID], None] = lambda _tenant, _conversation: None
    """Tells other rooms."""
    _silent: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self, tenant: str, conversation: UUID) -> None:
        """Something was written here."""
        self.ring_here(tenant, conversation)
        self.tell(tenant, conversation)

    def ring_here(self, tenant: str, conversation: UUID) -> None:
        for bell in self.hung.get(tenant, {}).get(conversation, ()):
            bell.ring()

    def ring_all(self) -> None:
        for canvases in self.hung.values():
            for bells in canvases.values():
                for bell in bells:
                    bell.ring()

    async def close(self, grace_s: float) -> None:
        """Hang no more, ring all, and wait until they are taken down, or not so long."""
        self.closing = True
        self.ring_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self.count:
                    self._silent.clear()
                    await self._silent.wait()

    @contextmanager
    def hang(self, tenant: str, conversation: UUID) -> Iterator[Bell]:
        """A bell of this canvas for as long as the block. Raises Exhausted ROOM_BUSY, Unavailable ROOM_UNAVAILABLE."""
        if self.closing:
            raise Unavailable("ROOM_UNAVAILABLE", "The canvas is restarting. Watch again in a moment.", retry_after_s=1)
        if self.count >= self.most:
            raise Exhausted("ROOM_BUSY", "As many watch as the room takes. Try again in a moment.", retry_after_s=5)
        bell, canvases = Bell(), self.hung.setdefault(tenant, {})
        canvases.setdefault(conversation, set()).add(bell)
        self.count += 1
        try:
            yield bell
        finally:
            self.count -= 1
            self._silent.set()
            canvases[conversation].discard(bell)
            if not canvases[conversation]:
                del canvases[conversation]
            if not canvases:
                del self.hung[tenant]
