"""The workers by name: one line each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from services.workers import archiver, reconcile, retention, sealer, siem, sla
from services.workers.bench import Bench
from services.workers.relay import relay

WORKS: Mapping[str, Callable[[Bench], Coroutine[Any, Any, None]]] = {
    "relay": relay,
    "sealer": sealer.work,
    "archiver": archiver.work,
    "retention": retention.work,
    "siem": siem.work,
    "sla": sla.work,
    "reconcile": reconcile.work,
}
