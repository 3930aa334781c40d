"""What more than one folder of tests stands on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.house import House, open_house


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """The rooms, running. Tests that use it belong to the session's loop: pytestmark = session_loop."""
    async with open_house() as house:
        yield house
