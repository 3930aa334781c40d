"""Waiting on grpclib without being taken for cancelled.

grpclib wakes a waiting task by cancelling it and then raises something else. The cancellation stays counted in that
task, and timeouts and task groups further out no longer work in it. So each wait gets a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T], within_s: float) -> T:
    """The result of `work`. Raises TimeoutError when it takes longer; then, or when cancelled, the work is stopped."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=within_s)
        if not task.done():
            raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        elif not task.cancelled():
            task.exception()  # looked at, also when we are being cancelled ourselves
    if task.cancelled():
        raise ConnectionAbortedError("The call was cut.")
    return task.result()
