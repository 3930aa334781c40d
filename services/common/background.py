"""Work that runs beside a block and ends with it, and how long it rests when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from services.common.lines import log

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run `work` while the block runs, and cancel it at the end. A fault in it is logged at once, raised at the end."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def lasting(work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
    """Do work that never ends, until cancelled. After a fault, which is logged, it begins anew."""
    failed = 0
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
        except Exception as fault:
            log().error("background work failed", work=name, exc_info=fault)
        lasted_s = asyncio.get_running_loop().time() - began
        failed = 1 if lasted_s > LONGEST_PAUSE_S else failed + 1
        await asyncio.sleep(pause_s(failed, FIRST_PAUSE_S, LONGEST_PAUSE_S))


async def finished(work: Coroutine[Any, Any, None], grace_s: float) -> None:
    """Do the work. Who is cancelled meanwhile waits so long for it to be done."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=grace_s)
        task.cancel()
        await asyncio.wait([task])
        raise
    task.result()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()):
        log().error("background work failed", work=task.get_name(), exc_info=fault)


def pause_s(failed: int, first_s: float, longest_s: float) -> float:
    """How long to wait after so many failures in a row, from one on: twice as long each time."""
    return min(longest_s, first_s * 2.0 ** min(failed - 1, 16))
