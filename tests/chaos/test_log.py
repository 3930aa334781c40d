"""The log under kill -9 and SIGSTOP, between any two steps: what was acknowledged is in it and was seen once, in order
per key; what was not acknowledged is not."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.scene import Scene, Server, given, open_scene, running_server, until, until_dead

pytestmark = pytest.mark.asyncio(loop_scope="module")


def is_stopped(process: ForkServerProcess) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running_server(tmp_path_factory.mktemp("postgres") / "postgres") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def scene(server: Server) -> AsyncIterator[Scene]:
    async with open_scene(server, server.folder.parent / "keys") as scene:
        yield scene


RELAY = ("relay: led", "relay: moved", "relay: committed")
CONSUMER = (
    "consumer: marked", "consumer: handled", "consumer: held", "consumer: done", "consumer: committed",
    "consumer: put off", "consumer: claimed",
)  # fmt: skip


@pytest.mark.parametrize("point", [*RELAY, *CONSUMER])
async def test_nothing_is_lost_or_seen_twice_when_a_worker_is_killed(scene: Scene, point: str) -> None:
    async with scene.writing() as writers:
        for time in (1, 3):
            await until_dead(scene.start(SOMA_CRASH_AT=f"{point}:{time}"))
        scene.start()
        await scene.some_more(writers)
    await until(scene.through)
    await scene.check(writers)


@pytest.mark.parametrize("point", ["consumer: handled", "consumer: held", "consumer: done"])
async def test_each_acknowledged_act_is_in_the_sealed_trail_once_when_the_sealer_is_killed(
    scene: Scene, point: str
) -> None:
    await scene.stand_at_end("sealer", "agent.audit")
    async with scene.writing() as writers:
        for time in (1, 3):
            await until_dead(scene.start("relay", "sealer", SOMA_CRASH_AT=f"{point}:{time}"))
        scene.start("relay", "sealer")
        await scene.some_more(writers)
    await until(lambda: scene.through("sealer", "agent.audit"))
    await scene.check_sealed(writers)


@pytest.mark.parametrize("point", ["relay: moved", "consumer: handled", "consumer: held", "consumer: done"])
async def test_one_that_stood_still_past_its_lease_changes_nothing_when_it_goes_on(scene: Scene, point: str) -> None:
    stopped = scene.start(SOMA_STOP_AT=f"{point}:2")
    async with scene.writing() as writers:
        await until(lambda: given(is_stopped(stopped)))
        scene.start()
        await scene.some_more(writers)
    await until(scene.through)
    os.kill(stopped.pid or 0, signal.SIGCONT)
    async with scene.writing(writers) as later:
        await scene.some_more(later)
    await until(scene.through)
    await scene.check(later)


async def test_two_relays_and_two_consumers_at_once_do_the_work_of_one(scene: Scene) -> None:
    async with scene.writing() as writers:
        await scene.some_more(writers, 400)
        for _ in range(2):
            scene.start()
        await scene.some_more(writers, 100)
    await until(scene.through)
    await scene.check(writers)


async def test_what_came_into_the_log_more_than_once_is_seen_once(scene: Scene) -> None:
    works = ("relay", "consumer", "repeater")
    async with scene.writing() as writers:
        await until_dead(scene.start(*works, SOMA_CRASH_AT="consumer: done:3"))
        again = scene.start(*works)
        await scene.some_more(writers, 100)
        await until(scene.repeats)
    again.kill()
    scene.start()
    await until(scene.through)
    await scene.check(writers, repeated=True)


async def test_nothing_acknowledged_is_lost_when_postgres_is_killed(scene: Scene) -> None:
    scene.start()
    async with scene.writing() as writers:
        await scene.some_more(writers)
        for _ in range(2):
            await scene.server.end(signal.SIGKILL)
            await scene.server.start()
            await scene.some_more(writers)
    await until(scene.through)
    await scene.check(writers)
