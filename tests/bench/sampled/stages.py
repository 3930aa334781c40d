"""The wall time of some coroutines of the router, by wrapping them where they stand when the first is asked for."""

import functools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAGES = (
    "services.common.interceptors:Guard.identify", "services.router.front.service:CompletionsService._whole",
    "services.router.front.service:CompletionsService._stream", "services.router.admit:Admission.admit",
    "services.router.admit:Admission._look", "services.router.budgets.books:Books.admit",
    "services.router.budgets.queue:Queue.put", "services.router.budgets.ledger:Ledger.write",
    "services.router.budgets.ledger:Ledger._told", "services.router.budgets.ledger:Ledger._book",
    "services.router.budgets.ledger:Ledger._write_down", "services.common.db:Transaction.settle",
)  # fmt: skip
took: defaultdict[str, list[float]] = defaultdict(list)


def install() -> None:
    """Those that there are."""
    for stage in STAGES:
        module, _, path = stage.partition(":")
        kind, _, name = path.partition(".")
        owner = getattr(sys.modules.get(module), kind, None)
        if owner is not None and name in vars(owner):
            setattr(owner, name, timed(path, vars(owner)[name]))


def timed(path: str, coroutine: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(coroutine)
    async def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return await coroutine(*args, **kwargs)
        finally:
            took[path].append((time.perf_counter() - began) * 1e3)

    return measured


def write(file: str) -> None:
    """Milliseconds by stage."""
    half = Path(f"{file}.half")
    half.write_text(json.dumps(took))
    half.replace(file)
