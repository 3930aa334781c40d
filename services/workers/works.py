"""The workers by name: one line each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from services.workers.archive import archiver
from services.workers.bench import Bench
from services.workers.reconcile import reconcile
from services.workers.relay import relay
from services.workers.retention import retention
from services.workers.sealer import sealer
from services.workers.siem import siem
from services.workers.slo import sla
from services.workers.trainer import trainer

WORKS: Mapping[str, Callable[[Bench], Coroutine[Any, Any, None]]] = {
    "relay": relay,
    "sealer": sealer.work,
    "archiver": archiver.work,
    "retention": retention.work,
    "siem": siem.work,
    "sla": sla.work,
    "reconcile": reconcile.work,
    "trainer": trainer.work,
}
