"""Lanes: order within a partition, several at once, and no work after a gap."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from services.common.consumer.lanes import LONGEST_AGAIN_S, Lanes, Run
from services.common.log.log import RUN_BYTES, Entry


def run_of(part: int, *offsets: int) -> Run:
    now = datetime.now(UTC)
    return [Entry("t", part, offset, uuid4(), "acme", "acme/x", "x", b"{}", "", now) for offset in offsets]


class Working:
    """Notes what it is given; fails at some offsets, as often as it is told to."""

    def __init__(self, **fails: int) -> None:
        self.given: list[list[int]] = []
        self.fails = {int(offset.removeprefix("at_")): times for offset, times in fails.items()}
        self.go_on = asyncio.Event()

    async def __call__(self, run: Run) -> bool:
        self.given.append([entry.offset for entry in run])
        await self.go_on.wait()
        for entry in run:
            if self.fails.get(entry.offset, 0):
                self.fails[entry.offset] -= 1
                return False
        return True


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_waits_behind_a_run_that_failed_is_not_worked() -> None:
    work = Working(at_1=1)
    lanes = Lanes(work, at_once=2, batch=2)
    lanes.put(run_of(0, 1, 2))
    lanes.put(run_of(0, 3, 4))
    work.go_on.set()
    await settled()
    assert work.given == [[1, 2]]


async def test_what_is_read_after_a_run_that_failed_is_not_worked_before_its_partition_is_given_out_again() -> None:
    work = Working(at_1=1)
    lanes = Lanes(work, at_once=2, batch=2)
    work.go_on.set()
    lanes.put(run_of(0, 1))
    await settled()
    lanes.put(run_of(0, 2))
    await settled()
    assert work.given == [[1]]
    async with asyncio.timeout(5):
        while not lanes.broken():
            await asyncio.sleep(0.01)
    lanes.put(run_of(0, 1, 2))
    await settled()
    assert work.given == [[1], [1, 2]]


async def test_runs_that_wait_are_joined_up_to_a_batch_and_kept_in_order() -> None:
    work = Working()
    lanes = Lanes(work, at_once=2, batch=4)
    for offset in range(7):
        lanes.put(run_of(0, offset))
    await settled()
    work.go_on.set()
    await settled()
    assert work.given == [[0, 1, 2, 3], [4, 5, 6]]


async def test_a_run_that_is_longer_than_a_batch_is_worked_in_batches() -> None:
    work = Working()
    lanes = Lanes(work, at_once=2, batch=3)
    lanes.put(run_of(0, *range(5)))
    lanes.put(run_of(0, *range(5, 8)))
    work.go_on.set()
    await settled()
    assert work.given == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_a_batch_ends_with_the_entry_that_passes_the_bytes_of_one() -> None:
    work = Working()
    lanes = Lanes(work, at_once=2, batch=10)
    large = bytes(RUN_BYTES // 2)
    lanes.put([msgspec.structs.replace(entry, payload=large) for entry in run_of(0, *range(5))])
    work.go_on.set()
    await settled()
    assert work.given == [[0, 1], [2, 3], [4]]


async def test_a_partition_that_fails_again_waits_longer_and_the_others_do_not() -> None:
    work = Working(at_1=2)
    lanes = Lanes(work, at_once=2, batch=4)
    work.go_on.set()
    lanes.put(run_of(0, 1))
    await settled()
    first = lanes.opening_s(60)
    async with asyncio.timeout(5):
        while not lanes.broken():
            await asyncio.sleep(0.01)
    lanes.put(run_of(0, 1))
    lanes.put(run_of(1, 9))
    await settled()
    assert lanes.opening_s(60) > first
    assert [9] in work.given


async def test_a_partition_that_has_failed_for_hours_is_given_out_again_all_the_same() -> None:
    work = Working(at_1=1)
    lanes = Lanes(work, at_once=2, batch=4)
    work.go_on.set()
    lanes.put(run_of(0, 1))
    lanes._lanes["t", 0].failed = 5000
    await settled()
    assert lanes.opening_s(60) <= LONGEST_AGAIN_S


async def test_nothing_more_comes_in_while_the_lanes_are_full() -> None:
    work = Working()
    lanes = Lanes(work, at_once=1, batch=2)
    lanes.put(run_of(0, *range(await lanes.room())))
    waiting = asyncio.create_task(lanes.room())
    await settled()
    assert not waiting.done()
    work.go_on.set()
    async with asyncio.timeout(5):
        assert await waiting >= 2


async def test_at_the_end_what_is_worked_is_finished_and_nothing_else_begun() -> None:
    work = Working()
    lanes = Lanes(work, at_once=1, batch=1)
    for offset in range(3):
        lanes.put(run_of(0, offset))
    await settled()
    asyncio.get_running_loop().call_soon(work.go_on.set)
    await lanes.end(5)
    assert work.given == [[0]]
