"""Workers at work: one that fails begins again, and the others do not notice."""

from __future__ import annotations

import asyncio
import time

from services.common.background import alongside
from services.workers.crew import FAILURES, Crew


class Worker:
    def __init__(self, fails: int) -> None:
        self.fails, self.begun, self.ended = fails, list[float](), 0
        self.steady = asyncio.Event()

    async def __call__(self) -> None:
        self.begun.append(time.monotonic())
        try:
            if len(self.begun) <= self.fails:
                raise ValueError("broken")
            self.steady.set()
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_a_worker_that_fails_begins_again_later_and_later_and_the_others_go_on() -> None:
    broken, sound = Worker(fails=3), Worker(fails=0)
    async with alongside(Crew(first_s=0.02).work({"broken": broken, "sound": sound}), name="crew"):
        async with asyncio.timeout(10):
            await broken.steady.wait()
        assert (len(sound.begun), sound.ended) == (1, 0)
    first, second, third = (after - before for before, after in zip(broken.begun, broken.begun[1:], strict=False))
    assert first >= 0.02
    assert second >= 0.04
    assert third >= 0.08
    assert sound.ended == 1


async def test_a_crew_is_not_well_while_one_keeps_failing_and_well_again_when_it_works() -> None:
    crew, worker = Crew(first_s=0.01, steady_s=0.05), Worker(fails=FAILURES)
    assert crew.is_well()
    async with alongside(crew.work({"worker": worker}), name="crew"), asyncio.timeout(10):
        while crew.is_well():
            await asyncio.sleep(0.001)
        await worker.steady.wait()
        while not crew.is_well():
            await asyncio.sleep(0.005)


async def test_a_worker_that_comes_to_an_end_begins_again() -> None:
    begun = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            again.set()

    async with alongside(Crew(first_s=0.01).work({"work": work}), name="crew"), asyncio.timeout(10):
        await again.wait()
