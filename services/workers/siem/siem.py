"""The audit trail as a SIEM reads it: OCSF (ocsf.py) by syslog over TLS, or by HTTPS webhook.

It is a consumer of the log like any other, so a receiver that is slow, hangs or is gone holds up nothing but itself:
its lag grows, and it catches up. Each event is sent at least once: again when the receiver took it and the answer, or
the commit behind it, was lost. Then it is a whole run that is sent again, of 200 events at most.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from services.common.background import pause_s
from services.common.consumer.consumer import Away, Consumer, Patience
from services.common.db import Database, Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry, Log
from services.common.telemetry import Sight
from services.workers.bench import Bench
from services.workers.siem import syslog, webhook
from services.workers.siem.ocsf import ocsf

GROUP, TOPIC = "siem", "agent.audit"
BATCH = 200
GATHER_S = 0.5
SEND_S = 8.0
"""A receiver that takes longer hangs."""
DEADLINE_S = 20.0
PAUSE_S, LONGEST_PAUSE_S = 0.2, 8.0
PATIENCE = Patience()
"""With an event that the receiver refuses. That it is away takes none."""


class Receiver(Protocol):
    async def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All of them, in order. Raises Unavailable: some may have arrived; Invalid: one of them never will."""


async def work(bench: Bench) -> None:
    if not bench.siem_url:
        await asyncio.Event().wait()
    async with open_receiver(bench.siem_url, bench.siem_ca, bench.siem_token_file) as receiver:
        await consumer(bench.db, bench.log, bench.sight, receiver).run()


def consumer(db: Database, log: Log, sight: Sight, receiver: Receiver, patience: Patience = PATIENCE) -> Consumer:
    handle = Telling(receiver, sight).handle
    return Consumer(
        db,
        log,
        sight,
        GROUP,
        (TOPIC,),
        handle,
        batch=BATCH,
        at_once=1,
        deadline_s=DEADLINE_S,
        patience=patience,
        gather_s=GATHER_S,
    )


@dataclass(slots=True)
class Telling:
    """What the consumer does with a run."""

    receiver: Receiver
    sight: Sight
    failures: int = field(default=0)
    """In a row."""

    async def handle(self, _tx: Transaction, entries: Sequence[Entry]) -> None:
        """After a failure the next attempt waits, longer each time."""
        if self.failures:
            await asyncio.sleep(pause_s(self.failures, PAUSE_S, LONGEST_PAUSE_S))
        try:
            await self.receiver.send([ocsf(msgspec.json.decode(entry.payload)) for entry in entries])
        except Unavailable as away:
            self.failures += 1
            raise Away(away.message) from away
        self.failures = 0
        self.sight.siem_sent.inc(len(entries))


@asynccontextmanager
async def open_receiver(
    url: str, ca: Path | None, token_file: Path | None, send_s: float = SEND_S
) -> AsyncIterator[Receiver]:
    """`syslog+tls://host[:6514]` or `https://…`. The certificate must be signed by a CA of the file, or of this
    machine's when there is none, and be of that host. ValueError for anything else."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if parts.scheme == "syslog+tls" and parts.hostname:
        async with syslog.open_syslog(parts.hostname, parts.port or syslog.PORT, context, send_s) as receiver:
            yield receiver
    elif parts.scheme == "https" and parts.hostname:
        async with webhook.open_webhook(url, context, token_file, send_s) as hook:
            yield hook
    else:
        raise ValueError(f"{url!r} is no SIEM: give syslog+tls://host:6514 or https://…")
