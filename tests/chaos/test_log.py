"""The log under kill -9 and SIGSTOP, between any two steps: what was acknowledged is in it and was seen once, in order
per key; what was not acknowledged is not."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import pytest_asyncio

from services.common import events, schema
from services.common.background import alongside
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import Database, open_database
from services.common.errors import Unavailable
from services.common.log.log import Log
from services.common.log.postgres.log import open_postgres_log
from services.local import postgres
from services.local.ports import free_port
from services.local.ready import Runs, is_ready
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.chaos.following import Follower
from tests.consuming import SEEN, TOPIC, what_of
from tests.stores import kept_password

pytestmark = pytest.mark.asyncio(loop_scope="module")
PEOPLE = ("ada", "bea", "cy", "dan", "eve", "fay")
PACE_S = 0.03
WITHIN_S = 20.0


@dataclass
class Server:
    """A Postgres that can be killed and started again at its port."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def admin_url(self) -> str:
        return postgres.url(self.port, kept_password(self.folder))

    def url(self, room: str) -> str:
        return postgres.url(self.port, "test", f"soma_{room}")

    async def start(self) -> None:
        """A server whose old children still hold its memory does not start at once."""
        await postgres.prepare(self.folder, kept_password(self.folder))
        async with asyncio.timeout(WITHIN_S):
            while not await is_ready(Runs(postgres.ready_command(self.port))):
                if self.process is None or self.process.returncode is not None:
                    postgres.forget_dead_server(self.folder)
                    command = postgres.command(self.folder, self.port)
                    self.process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
                await asyncio.sleep(0.05)

    async def end(self, how: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(how)
        await self.process.wait()


@dataclass
class Writers:
    """People whose events are appended one after another, each with a number."""

    db: Database
    group: str
    acknowledged: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """Nobody said whether they were committed."""
    round: int = 0
    count: int = 0

    async def write(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for who in PEOPLE:
                tasks.create_task(self._write(who))

    async def _write(self, who: str) -> None:
        n = 0
        while True:
            n, what = n + 1, f"{who}.{self.group}.{self.round}-{n:06d}"
            await self._append(who, what, gives_up=n % 7 == 0)
            self.count += 1
            await asyncio.sleep(PACE_S)

    async def _append(self, who: str, what: str, *, gives_up: bool) -> None:
        caller = Caller("acme", who, frozenset(), frozenset())
        try:
            async with self.db.tenant(caller, action="turn.tested") as tx:
                tx.about(f"conversations/{what}")
                await events.append(tx, MessageEvent(type="turn.asked", conversation=f"conversations/{what}"))
                if gives_up:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        except (Unavailable, asyncio.CancelledError) as fault:
            self.doubtful.add(what)
            if isinstance(fault, asyncio.CancelledError):
                raise
            await asyncio.sleep(0.1)
        else:
            self.acknowledged.add(what)


@dataclass
class Scene:
    server: Server
    db: Database
    log: Log
    keys_url: str
    group: str
    followers: list[ForkServerProcess] = field(default_factory=list)

    def start(self, *works: str, **environment: str) -> ForkServerProcess:
        works = works or ("relay", "consumer")
        process = Follower(self.server.url("workers"), self.keys_url, self.group, works, environment).start()
        self.followers.append(process)
        return process

    async def end_all(self) -> None:
        for process in self.followers:
            process.kill()
        for process in self.followers:
            await asyncio.to_thread(process.join, WITHIN_S)

    @asynccontextmanager
    async def writing(self, before: Writers | None = None) -> AsyncIterator[Writers]:
        """While the block runs; after others, with what they know."""
        async with open_database(self.server.url("agent"), self.keys_url, SystemClock()) as db:
            writers = replace(before, db=db, round=before.round + 1, count=0) if before else Writers(db, self.group)
            async with alongside(writers.write(), name="writers"):
                yield writers

    async def some_more(self, writers: Writers, count: int = 40) -> None:
        goal = writers.count + count
        await until(lambda: given(writers.count >= goal))

    async def through(self, group: str = "", topic: str = TOPIC) -> bool:
        """Whether all that was told is in the log, and the group has done all of it."""
        group = group or self.group
        try:
            standing, ends = await self.log.standing(group), await self.log.ends(topic)
            left = await self.db.look("SELECT 1 FROM soma.outbox LIMIT 1")
            letters = await self.db.look(
                "SELECT 1 FROM soma.retries WHERE \"group\" = $1 AND state <> 'dropped' LIMIT 1", group
            )
        except Unavailable:
            return False
        return not left and not letters and all(standing.get(p, first) >= end for p, (first, end) in ends.items())

    async def check(self, writers: Writers, *, repeated: bool = False) -> None:
        """The law. What was repeated is in the log more than once."""
        seen = [row["what"] for row in await self.db.look(
            'SELECT what FROM soma.seen WHERE "group" = $1 AND what LIKE $2 ORDER BY n', self.group, f"%.{self.group}.%"
        )]  # fmt: skip
        logged = [
            what_of(entry)
            for place, (first, _) in (await self.log.ends(TOPIC)).items()
            for entry in await self.log.read(place, first, 10**6)
        ]
        logged = [what for what in logged if f".{self.group}." in what]
        assert repeated == (len(logged) > len(set(logged)))
        logged = list(dict.fromkeys(logged))
        for told in (seen, logged):
            assert writers.acknowledged <= set(told), "something acknowledged is lost"
            assert set(told) <= writers.acknowledged | writers.doubtful, "something was never acknowledged"
            assert len(told) == len(set(told)), "something is there twice"
            for who in PEOPLE:
                theirs = [what for what in told if what.startswith(f"{who}.")]
                assert all(before < after for before, after in pairwise(theirs)), f"{who} out of order"
        assert len(writers.acknowledged) > 30


async def given(truth: bool) -> bool:
    return truth


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.03)


async def until_dead(process: ForkServerProcess) -> None:
    await until(lambda: given(process.exitcode is not None))
    assert process.exitcode == -signal.SIGKILL, f"it ended with {process.exitcode}"


def is_stopped(process: ForkServerProcess) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(tmp_path_factory.mktemp("postgres") / "postgres", free_port())
    await server.start()
    await schema.migrate(server.admin_url, ())
    await schema.add_tenant(server.admin_url, "acme", ())
    for room in ("agent", "workers"):
        await schema.set_room_password(server.admin_url, room, "test")
    async with schema.administering(server.admin_url) as conn:
        await conn.execute(SEEN)
    yield server
    await server.end(signal.SIGINT)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(server: Server) -> AsyncIterator[Scene]:
    keys_url = f"file://{server.folder.parent / 'keys'}"
    async with (
        open_database(server.url("workers"), keys_url, SystemClock(), connections=4) as db,
        open_postgres_log(db) as log,
    ):
        scene = Scene(server, db, log, keys_url, f"g{secrets.token_hex(4)}")
        await log.make_topics()
        await log.stand(scene.group, {place: end for place, (_, end) in (await log.ends(TOPIC)).items()})
        try:
            yield scene
        finally:
            await scene.end_all()


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


SEALED = "SELECT resource FROM soma.audit WHERE tenant = 'acme' AND action = 'turn.tested' AND resource LIKE $1"


@pytest.mark.parametrize("point", ["consumer: handled", "consumer: held", "consumer: done"])
async def test_each_acknowledged_act_is_in_the_sealed_trail_once_when_the_sealer_is_killed(
    scene: Scene, point: str
) -> None:
    ends = await scene.log.ends("agent.audit")
    await scene.log.stand("sealer", {place: end for place, (_, end) in ends.items()})
    async with scene.writing() as writers:
        for time in (1, 3):
            await until_dead(scene.start("relay", "sealer", SOMA_CRASH_AT=f"{point}:{time}"))
        scene.start("relay", "sealer")
        await scene.some_more(writers)
    await until(lambda: scene.through("sealer", "agent.audit"))
    rows = await scene.db.look(SEALED, f"conversations/%.{scene.group}.%")
    sealed = [row["resource"].removeprefix("conversations/") for row in rows]
    assert writers.acknowledged <= set(sealed) <= writers.acknowledged | writers.doubtful
    assert len(sealed) == len(set(sealed))


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
