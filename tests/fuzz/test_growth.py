"""Some thousand calls of every kind, and nothing of them stays: no memory, no calls, connections, leases or keys."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from redis.asyncio import Redis

from tests.fuzz.breaches import breaches
from tests.fuzz.calls import ALL, call, each
from tests.fuzz.draw import TIMES, draw
from tests.fuzz.fuzz import METHODS, Fuzz
from tests.fuzz.methods import Method
from tests.fuzz.rubbish import rubbish
from tests.house import House, Person

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200 * max(1.0, TIMES))]

Used: TypeAlias = dict[str, Counter[str]]
"""By room."""
WARM_UP, ROUNDS, LAST = 2, max(3, round(4 * TIMES)), 3
GROWTH = Counter(bytes=6 * 1024 * 1024, blocks=8_000)
"""What a room may have grown by after the rounds, some 8,000 calls: caches that fill up. What the allocator holds goes
up and down by as much, so the most of the warm-up is compared with the least of the last rounds."""
COUNTED_S = 30.0
MORE_FILES = 32
"""Connections that a room may have opened meanwhile: its pools fill up too."""


@dataclass(frozen=True, slots=True)
class Case:
    person: Person
    method: Method
    body: bytes
    most: int
    hang_up_s: float | None


async def test_thousands_of_calls_leave_nothing_behind(fuzz: Fuzz) -> None:
    cases = await mixture(fuzz)
    before = most([await used_after_a_round(fuzz, cases) for _ in range(WARM_UP)])
    keys = await lasting_keys(fuzz.house)
    files = {room: open_files(fuzz.house, room) for room in fuzz.house.rooms}

    after = least([await used_after_a_round(fuzz, cases) for _ in range(ROUNDS)][-LAST:])

    told = "; ".join(f"{room} {shown(before[room], after[room])}" for room in before)
    fuzz.tally.remarks.append(f"held after {WARM_UP * len(cases)} calls, and after {ROUNDS * len(cases)} more: {told}")
    assert all(after[room][what] - was[what] < GROWTH[what] for room, was in before.items() for what in GROWTH), told
    assert await lasting_keys(fuzz.house) <= keys
    assert await waiting_transactions(fuzz.house) == []
    for room in fuzz.house.rooms:
        assert await running_calls(fuzz.house, room) == {}
        assert open_files(fuzz.house, room) <= files[room] + MORE_FILES


async def mixture(fuzz: Fuzz) -> list[Case]:
    """Good, broken and rubbish requests of all methods in turns; of every fourth call one hangs up."""
    columns = []
    for method in METHODS:
        person, values = await fuzz.seat(method)
        good = draw(values.requests(), 16)
        ways = list(breaches(method.request.DESCRIPTOR))[:8]
        bodies = [request.SerializeToString() for request in good]
        bodies += [way.of(good[0]).SerializeToString() for way in ways]
        bodies += draw(rubbish(method.request.DESCRIPTOR, values.requests()), 16)
        columns.append([Case(person, method, body, (ALL, 1, 0)[n % 3], hang_up_s(n)) for n, body in enumerate(bodies)])
    longest = max(map(len, columns))
    return [column[n] for n in range(longest) for column in columns if n < len(column)]


def hang_up_s(n: int) -> float | None:
    return None if n % 4 else (n % 20) / 4000


async def used_after_a_round(fuzz: Fuzz, cases: list[Case]) -> Used:
    await each(cases, try_one)
    await fuzz.still()
    return {room: await used(fuzz.house, room) for room in fuzz.house.rooms}


async def try_one(case: Case) -> None:
    try:
        async with asyncio.timeout(case.hang_up_s):
            outcome = await call(case.person, case.method, case.body, most=case.most)
    except TimeoutError:
        if case.hang_up_s is None:
            raise
        return
    assert not outcome.complaint, f"{case.method}: {outcome}"


def most(seen: list[Used]) -> Used:
    return {room: Counter({what: max(one[room][what] for one in seen) for what in GROWTH}) for room in seen[0]}


def least(seen: list[Used]) -> Used:
    return {room: Counter({what: min(one[room][what] for one in seen) for what in GROWTH}) for room in seen[0]}


def shown(before: Counter[str], after: Counter[str]) -> str:
    grown_mib = (after["bytes"] - before["bytes"]) / 2**20
    return f"{before['bytes'] / 2**20:.1f} {grown_mib:+.2f} MiB, {after['blocks'] - before['blocks']:+} blocks"


async def used(house: House, room: str) -> Counter[str]:
    """What is left when the room has collected its garbage: bytes that are its own, blocks of Python's objects."""
    pid, file = house.rooms[room].pid, Path(house.environment[room]["SOMA_COUNT_FILE"])
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(COUNTED_S):
        while not file.exists():
            await asyncio.sleep(0.01)
    return Counter(bytes=psutil.Process(pid).memory_full_info().uss, blocks=int(file.read_text()))


def open_files(house: House, room: str) -> int:
    count: int = psutil.Process(house.rooms[room].pid).num_fds()
    return count


async def lasting_keys(house: House) -> set[bytes]:
    """Keys in Valkey that never expire."""
    async with Redis.from_url(house.environment["agent"]["SOMA_CACHE_URL"]) as redis:
        return {key async for key in redis.scan_iter() if await redis.ttl(key) == -1}


async def waiting_transactions(house: House) -> list[Mapping[str, Any]]:
    sql = "SELECT usename, query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    return await house.rows(sql)


async def running_calls(house: House, room: str) -> dict[str, float]:
    """What the room's own metrics say of calls and turns that have not ended, when they had a moment to end."""
    for _ in range(100):
        running = await asyncio.to_thread(gauges, house.environment[room]["SOMA_METRICS_LISTEN"])
        if not running:
            break
        await asyncio.sleep(0.05)
    return running


def gauges(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    told = (line.rpartition(" ") for line in lines if line.startswith(("soma_rpcs_running{", "soma_turns_running ")))
    return {name: float(count) for name, _, count in told if float(count) and "Health" not in name}
