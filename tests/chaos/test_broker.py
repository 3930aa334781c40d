"""The log in Kafka under kill -9, of the broker and of those who follow it: what was acknowledged is in the log and was
seen once, in order per key, and who writes notices nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.scene import PEOPLE, Scene, Server, given, open_scene, running_server, until, until_dead
from tests.kafka import Broker

pytestmark = pytest.mark.asyncio(loop_scope="session")
AWAY_S = float(os.environ.get("SOMA_TEST_AWAY_S", "4"))
DRAINED_WITHIN_S = 30.0 + AWAY_S / 2
"""From the broker's return, with writers at work."""
PENDING = "SELECT count(*) AS count FROM soma.outbox"
SEEN = 'SELECT what FROM soma.seen WHERE "group" = $1'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running_server(tmp_path_factory.mktemp("postgres") / "postgres") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def scene(server: Server, broker: Broker) -> AsyncIterator[Scene]:
    async with open_scene(server, server.folder.parent / "keys", broker.url) as scene:
        yield scene


@pytest.mark.timeout(240 + 2 * AWAY_S)
async def test_nothing_is_lost_the_lag_drains_and_keys_keep_their_order_when_the_broker_is_away_under_load(
    scene: Scene, broker: Broker
) -> None:
    followers = [scene.start("steady relay"), scene.start("steady consumer")]
    async with scene.writing() as writers:
        await scene.some_more(writers)
        await until(lambda: all_seen(scene, set()))
        await broker.end(signal.SIGKILL)
        before, killed = set(writers.acknowledged), time.monotonic()
        many = len(before) + AWAY_S * len(PEOPLE)  # who writes does not wait for the broker
        await until(
            lambda: given(time.monotonic() - killed >= AWAY_S and len(writers.acknowledged) > many), AWAY_S + 20
        )
        told = writers.acknowledged - before
        assert not writers.doubtful
        assert await pending(scene) >= len(told), "it all waits in the outbox"
        await broker.start()
        back = time.monotonic()
        await until(lambda: all_seen(scene, told), DRAINED_WITHIN_S)
        drained_s, meanwhile = time.monotonic() - back, len(writers.acknowledged - before - told)
    await until(scene.through)
    await scene.check(writers, repeated=None)
    assert await pending(scene) == 0
    assert [follower.exitcode for follower in followers] == [None, None]
    print(f"{len(told)} told in {back - killed:.1f} s without a broker, seen {drained_s:.1f} s after its return,")
    print(f"with {meanwhile} more told meanwhile. The longest write took {writers.longest_s:.2f} s.")


@pytest.mark.parametrize(
    "point", ["relay: moved", "relay: committed", "consumer: held", "consumer: done", "consumer: committed"]
)
async def test_nothing_is_lost_or_seen_twice_when_a_worker_is_killed(scene: Scene, point: str) -> None:
    async with scene.writing() as writers:
        for number in (1, 3):
            await until_dead(scene.start(SOMA_CRASH_AT=f"{point}:{number}"))
        scene.start()
        await scene.some_more(writers)
    await until(scene.through)
    await scene.check(writers, repeated=None)


async def test_two_relays_and_two_consumers_at_once_do_the_work_of_one_and_repeat_nothing(scene: Scene) -> None:
    async with scene.writing() as writers:
        await scene.some_more(writers, 400)
        for _ in range(2):
            scene.start()
        await scene.some_more(writers, 100)
    await until(scene.through)
    await scene.check(writers)


async def all_seen(scene: Scene, told: set[str]) -> bool:
    """These, and something."""
    seen = {row["what"] for row in await scene.db.look(SEEN, scene.group)}
    return bool(seen) and told <= seen


async def pending(scene: Scene) -> int:
    return int((await scene.db.look(PENDING))[0]["count"])
