"""Keeps workers at work: one that fails is begun again, later and later, and the others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from services.common.background import pause_s
from services.common.telemetry import log

Begin: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

FIRST_S, LONGEST_S = 0.5, 30.0
"""How long one that has failed waits; twice as long each time that it fails again."""
STEADY_S = 30.0
"""One that has worked for so long is well."""
FAILURES = 3
"""One that fails so often in a row is not."""


@dataclass(frozen=True, slots=True)
class Crew:
    first_s: float = FIRST_S
    steady_s: float = STEADY_S
    failures: dict[str, int] = field(default_factory=dict)
    """By name, in a row."""

    def is_well(self) -> bool:
        """Whether no worker keeps failing."""
        return max(self.failures.values(), default=0) < FAILURES

    async def work(self, workers: Mapping[str, Begin]) -> None:
        """Until cancelled: then all end, together."""
        async with asyncio.TaskGroup() as tasks:
            for name, begin in workers.items():
                tasks.create_task(self._keep(name, begin), name=f"crew: {name}")

    async def _keep(self, name: str, begin: Begin) -> None:
        while True:
            fault = await self._once(name, begin)
            self.failures[name] = self.failures.get(name, 0) + 1
            rest_s = pause_s(self.failures[name], self.first_s, LONGEST_S)
            log().error("a worker has failed", worker=name, again_in_s=rest_s, exc_info=fault)
            await asyncio.sleep(rest_s)

    async def _once(self, name: str, begin: Begin) -> BaseException | None:
        """What the worker failed with. None: it came to an end, which none should."""
        task = asyncio.create_task(begin(), name=name)
        try:
            done, _ = await asyncio.wait([task], timeout=self.steady_s)
            if not done:
                self.failures[name] = 0
                await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.wait([task])
        return None if task.cancelled() else task.exception()
