"""What more than one folder of tests stands on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.house import House, open_house
from tests.kafka import Broker, running_kafka
from tests.system.mesh import Mesh, running_mesh


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """The rooms, running. Tests that use it belong to the session's loop: pytestmark = session_loop."""
    async with open_house() as house:
        yield house


@pytest.fixture(scope="session")
def scripted_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """In mode TEST: answered by rule. Shared: leave it as you found it."""
    with running_mesh(tmp_path_factory.mktemp("scripted") / "soma", "TEST") as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A real Kafka. Skips where Java or Maven is missing. Who ends it starts it again."""
    async with running_kafka(tmp_path_factory.mktemp("kafka") / "broker") as broker:
        yield broker
