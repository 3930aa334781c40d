"""What the audit trail costs a chat: what each of its audit events adds to the transaction that tells it, beside the
chat's own time. One at a time, in turns with the same transaction that leaves no audit event."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from services.common.clock import new_id
from tests.bench.chats import WORDS_SHORT, Asked, asking
from tests.bench.fake import running_fake
from tests.bench.figure import Figure
from tests.bench.log import ADA, STATE, Bench, asked_event, bench_tell, open_bench
from tests.system.mesh import Mesh, running_mesh

TRANSACTIONS, CHATS, WARM_UP = 800, 200, 20
AUDITED = "SELECT count(*) AS count FROM soma.audit WHERE tenant = 'acme'"


def measure(scale: float) -> list[Figure]:
    alone_ms, audited_ms = uvloop.run(transactions_ms(round(TRANSACTIONS * scale)))
    chat_ms, events = chats(max(WARM_UP, round(CHATS * scale)))
    cost_ms = events * (audited_ms - alone_ms)
    note = f"{events:.1f} audit events of {audited_ms - alone_ms:.2f} ms; a chat's p50 is {chat_ms:.1f} ms"
    return [
        Figure("transaction with an event, p50", alone_ms, "ms"),
        Figure("transaction with an event and its audit, p50", audited_ms, "ms"),
        Figure("audit / a chat's p50", cost_ms / chat_ms, "", 0.10, at_most=True, note=note),
    ]


async def transactions_ms(times: int) -> tuple[float, float]:
    """The medians, without and with the audit event."""
    async with open_bench() as bench:
        deeds = [alone(bench), bench_tell(bench)]
        took: list[list[float]] = [[], []]
        for _ in range(WARM_UP + times):
            for deed, each in zip(deeds, took, strict=True):
                began = time.perf_counter()
                await deed()
                each.append((time.perf_counter() - began) * 1e3)
    first, second = (statistics.median(each[WARM_UP:]) for each in took)
    return first, second


def alone(bench: Bench) -> Callable[[], Awaitable[None]]:
    async def tell() -> None:
        async with bench.room.upkeep(ADA) as tx:
            await tx.execute(STATE, new_id())
            await asked_event(tx)

    return tell


def chats(times: int) -> tuple[float, float]:
    """A chat's median time from its request to its last byte, nothing else being asked; and its audit events."""
    with tempfile.TemporaryDirectory(prefix="soma-audit-") as folder, running_fake() as fake:
        home = Path(folder) / "soma"
        fake.write_catalogue(home / "providers.toml")
        fake.behave(words=WORDS_SHORT)
        with running_mesh(home, "TEST") as mesh:
            chat = Asked.of(mesh.port, "/v1/chat:stream", {"text": "How much is it?"}, mesh.token())
            uvloop.run(asking(chat, WARM_UP, at_once=1))
            before = sealed(mesh)
            run = uvloop.run(asking(chat, times, at_once=1))
            return statistics.median(run.whole_ms), (sealed(mesh) - before) / times


def sealed(mesh: Mesh) -> int:
    """How many audit events acme's trail has, when it has come to rest."""
    last = -1
    while (now := int(mesh.rows(AUDITED)[0]["count"])) != last:
        last = now
        time.sleep(1.5)
    return now
