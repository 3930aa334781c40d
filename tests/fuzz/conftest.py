"""A house for the fuzz alone, so that what is left behind is the fuzz's; and its figures at the end of the run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis.configuration import set_hypothesis_home_dir

from services.local.ports import free_port
from tests.fuzz.fuzz import Fuzz
from tests.fuzz.tally import Tally
from tests.house import ROOMS, open_house

TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    """schemathesis is loaded for these tests alone: it takes two seconds. Nothing is kept in the project's folder."""
    set_hypothesis_home_dir(Path(sys.prefix) / ".hypothesis")
    config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(TALLY, Tally())


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def fuzz(tally: Tally) -> AsyncIterator[Fuzz]:
    async with open_house(start=()) as house:
        for room in ROOMS:
            house.environment[room] |= {
                "SOMA_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
                "PYTHONPATH": str(Path(__file__).parent / "counted"),
                "SOMA_COUNT_FILE": str(house.folder / f"{room}.blocks"),
            }
        await asyncio.gather(*(house.start(room) for room in ROOMS))
        yield Fuzz(house, tally)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures by method fill a file, so that on the screen nothing hides a failure."""
    tally = config.stash.get(TALLY, Tally())
    lines = list(tally.remarks)
    if tally.counts:
        figures = Path(sys.prefix) / "fuzz.txt"
        figures.write_text("".join(f"{line}\n" for line in tally.lines()))
        lines += [tally.total(), f"by method, with the slowest and the answers by reason: {figures}"]
    if lines:
        terminalreporter.section("fuzz")
        for line in lines:
            terminalreporter.write_line(line)
