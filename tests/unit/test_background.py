"""Work beside a block: ends with it, and its faults are not lost."""

from __future__ import annotations

import asyncio

import pytest

from services.common.background import alongside


async def test_work_ends_with_its_block() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with alongside(work(), name="work"):
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_fault_in_the_work_is_raised_at_the_end_of_the_block() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with alongside(work(), name="work"):
            await asyncio.sleep(0)


async def test_a_fault_of_the_block_is_the_one_that_is_told() -> None:
    async def work() -> None:
        raise ValueError("of the work")

    async def block() -> None:
        async with alongside(work(), name="work"):
            await asyncio.sleep(0)
            raise KeyError("of the block")

    with pytest.raises(KeyError, match="of the block"):
        await block()
