"""What more than one folder of tests stands on."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.house import House, open_house
from tests.kafka import Broker, running_kafka
from tests.system.mesh import Mesh, running_mesh

SLICE = 2_000
"""So many ports has a run of tests for itself."""

# A property is tried on the same cases each time, however slow the machine is.
settings.register_profile(
    "laws", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("laws")


def pytest_configure(config: pytest.Config) -> None:
    """Ports of its own to each run: what is free now may be taken by another run before it is listened at. Who holds
    the first of a slice has the others."""
    for first in range(20_000, 30_000, SLICE):
        guard = socket.socket()
        config.add_cleanup(guard.close)
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            continue
        os.environ["SOMA_PORTS"] = f"{first + 1}-{first + SLICE - 1}"
        return


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
