"""What wakes the relay when something was told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from services.common.postgres import connect_once, store_errors

RUNG = "soma_outbox"
"""The channel of NOTIFY."""


class Bell:
    """Tells the relay that something is in the outbox, at most once in `PAUSE_S`: commits that NOTIFY wait for each
    other. What goes wrong here delays an event by a second, no more: the relay looks for itself too."""

    PAUSE_S = 0.02
    AGAIN_S = 1.0

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def tell(self, url: str) -> None:
        """Until cancelled, over a connection of its own that is made when it is first needed."""
        while True:
            await self._rung.wait()
            with suppress(*store_errors.AWAY):
                await self._tell_on(await connect_once(url))
            await asyncio.sleep(self.AGAIN_S)

    async def _tell_on(self, conn: Any) -> None:
        try:
            while True:
                await self._rung.wait()
                self._rung.clear()
                await conn.execute(f"NOTIFY {RUNG}")
                await asyncio.sleep(self.PAUSE_S)
        except Exception:
            self._rung.set()  # what was to be told is told over the next connection
            raise
        finally:
            conn.terminate()
