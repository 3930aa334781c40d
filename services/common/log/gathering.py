"""Few large batches in place of many small ones, for readers that nobody waits for: most of what a small batch costs is
the same for a large one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass


@dataclass(slots=True)
class Gathering:
    """What comes after all was read gathers for a while. What comes after a silence is read at once."""

    for_s: float = 0.0
    until: float = 0.0
    """By time.monotonic()."""

    def begin(self) -> None:
        self.until = time.monotonic() + self.for_s

    async def over(self, end: float) -> bool:
        """Wait until it is, but not beyond `end`. Whether it is."""
        if (left := min(self.until, end) - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return not self.for_s or self.until <= end
