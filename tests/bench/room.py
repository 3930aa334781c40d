"""Each room by itself: from exec to serving, and memory that it shares with nobody, at first and after 200 chats."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import uvloop

from tests.asking import ask
from tests.bench.figure import Figure
from tests.bench.spent import cpu_s, own_memory_mb
from tests.house import ROOMS, House, open_house

CHATS, AT_ONCE = 200, 8
STARTS = 3
LOOK_S = 0.005


def measure(scale: float) -> list[Figure]:
    return uvloop.run(measured(scale))


async def measured(scale: float) -> list[Figure]:
    found = []
    async with open_house(start=()) as house:
        for room in reversed(ROOMS):
            starts = [await started(house, room) for _ in range(STARTS)]
            took_s, spent_s = min(starts)
            note = f"the fastest of {STARTS}, {spent_s:.2f} s of CPU; slowest {max(starts)[0]:.2f} s"
            found.append(Figure(f"{room}: exec to serving", took_s, "s", 2, at_most=True, note=note))
        fresh = {room: own_memory_mb(house.rooms[room].pid) for room in ROOMS}
        chats = max(1, round(CHATS * scale))
        await chatted(house, chats)
        for room in ROOMS:
            used = own_memory_mb(house.rooms[room].pid)
            found.append(Figure(f"{room}: own memory after the start", fresh[room], "MB", 80, at_most=True))
            found.append(Figure(f"{room}: own memory after {chats} chats", used, "MB", 80, at_most=True))
    return found


async def started(house: House, room: str) -> tuple[float, float]:
    """Start the room anew. Seconds until its port answers and its health is SERVING, and CPU seconds for that."""
    if room in house.rooms:
        await house.end(room)
    began = time.monotonic()
    log = (house.folder / f"{room}.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{room}", env=os.environ | house.environment[room], stdout=log, stderr=log
    )
    log.close()
    house.authority.admit(process.pid, room)
    house.rooms[room] = process
    await until_open(house.environment[room]["SOMA_LISTEN"])
    await house.until_serving(room)
    return time.monotonic() - began, cpu_s(process.pid)


async def until_open(address: str) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(LOOK_S)
                continue
            return writer.close()


async def chatted(house: House, chats: int) -> None:
    person, left = house.person(), iter(range(chats))

    async def worker() -> None:
        for number in left:
            events = await ask(person, f"question {number}")
            assert events[-1].HasField("done"), events[-1]

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
