"""How long to go on trying, and how long to pause between two tries."""

from __future__ import annotations

import asyncio
import random
import time

from soma_sdk.errors import SomaError

FIRST_S = 0.1
LONGEST_S = 2.0


class Patience:
    """Pauses that grow, until nothing has moved for `most_s`."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self.moved()

    def moved(self) -> None:
        """Something went well: begin anew."""
        self._since, self._pause_s = time.monotonic(), FIRST_S

    async def wait(self, fault: SomaError) -> None:
        """Pause before the next try. Raises the fault itself when a retry is hopeless, or would come too late."""
        if fault.retry_after_s is None:
            raise fault
        pause_s = max(fault.retry_after_s, self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients
        if time.monotonic() + pause_s - self._since > self._most_s:
            raise fault
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        await asyncio.sleep(pause_s)
