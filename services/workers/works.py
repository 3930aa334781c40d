"""The workers by name: one line each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from services.workers.bench import Bench

WORKS: Mapping[str, Callable[[Bench], Coroutine[Any, Any, None]]] = {}
