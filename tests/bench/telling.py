"""A room that tells events at a steady rate, in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvloop

from services.common.caller import Caller
from services.common.clock import SystemClock, new_id, rfc3339
from services.common.db import Database, open_database
from services.common.people.sealing import SubjectKey
from soma.events.v1alpha1.message_pb2 import MessageEvent

KEYS = 64
CONVERSATION = "conversations/0190f3a4-0000-7000-8000-000000000000"
LAST_S = 0.2
"""A room lives on after it told something: its bell has still to ring."""
LATE_S = 30.0
"""So long after its time it may take."""
forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Telling:
    url: str
    keys_url: str
    caller: Caller
    rate: int
    """Events a second, each in a transaction."""
    total: int

    async def told(self) -> Mapping[str, float]:
        """By id: when its transaction began, by time.monotonic(), which all processes share."""
        hear, say = forking.Pipe(duplex=False)
        process = forking.Process(target=main, args=(self, say), daemon=True)
        process.start()
        say.close()
        try:
            found = await asyncio.to_thread(hear.poll, self.total / self.rate + LATE_S)
            assert found, "the room that tells events did not come to its end"
            began: Mapping[str, float] = hear.recv()  # EOFError: it has failed, and said why
        finally:
            process.kill()
            await asyncio.to_thread(process.join, LATE_S)
        return began


def main(telling: Telling, say: Connection) -> None:
    say.send(uvloop.run(tell(telling)))


async def tell(telling: Telling) -> Mapping[str, float]:
    began = dict[str, float]()
    keys = [SubjectKey.new(telling.caller.tenant) for _ in range(KEYS)]
    sealed = keys[0].seal("a question of some words " * 10, "here")
    async with open_database(telling.url, telling.keys_url, SystemClock()) as db:
        start = time.monotonic() + 0.5
        async with asyncio.timeout(telling.total / telling.rate + LATE_S), asyncio.TaskGroup() as group:
            for n in range(telling.total):
                await asyncio.sleep(max(0.0, start + n / telling.rate - time.monotonic()))
                event = MessageEvent(
                    id=str(new_id()), type="turn.asked", version=1, time=rfc3339(db.clock.now()),
                    tenant=telling.caller.tenant, subject=keys[n % KEYS].pseudonym, conversation=CONVERSATION,
                    text=sealed,
                )  # fmt: skip
                began[event.id] = time.monotonic()
                group.create_task(one(db, telling.caller, event))
        await asyncio.sleep(LAST_S)
    return began


async def one(db: Database, caller: Caller, event: MessageEvent) -> None:
    async with db.upkeep(caller) as tx:
        tx.tell(event)
