"""People who write, workers that follow, the Postgres between them, and the law that they keep in all chaos."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import asyncpg

from services.common import events, schema
from services.common.background import alongside
from services.common.caller import Caller
from services.common.clock import Clock, SystemClock
from services.common.db import Database, open_database
from services.common.errors import Unavailable
from services.common.log.log import Log
from services.local import postgres
from services.local.ports import free_port
from services.local.ready import Runs, is_ready
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.chaos.following import Follower, open_log
from tests.consuming import SEEN, TOPIC, what_of
from tests.stores import kept_password

PEOPLE = ("ada", "bea", "cy", "dan", "eve", "fay")
PACE_S = 0.03
WITHIN_S = 60.0
REPEATED = "SELECT 1 FROM soma.log WHERE topic = $1 AND payload::text LIKE $2 GROUP BY id HAVING count(*) > 1 LIMIT 1"
SEALED = "SELECT resource FROM soma.audit WHERE tenant = 'acme' AND action = 'turn.tested' AND resource LIKE $1"


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
        if self.process.returncode is None:
            self.process.send_signal(how)
        await self.process.wait()


@dataclass
class Writers:
    """People whose events are appended one after another, each with a number."""

    db: Database
    group: str
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """They were rolled back, as Postgres itself has said."""
    doubtful: set[str] = field(default_factory=set)
    """Nobody said whether they were committed."""
    round: int = 0
    count: int = 0
    longest_s: float = 0.0
    """That one was kept waiting."""

    async def write(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for who in PEOPLE:
                tasks.create_task(self._write(who))

    async def _write(self, who: str) -> None:
        n = 0
        while True:
            n, what = n + 1, f"{who}.{self.group}.{self.round}-{n:06d}"
            began = time.monotonic()
            await self._append(who, what, gives_up=n % 7 == 0)
            self.count, self.longest_s = self.count + 1, max(self.longest_s, time.monotonic() - began)
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
            (self.refused if was_rolled_back(fault) else self.doubtful).add(what)
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
    log_url: str = ""
    """Empty: the log is in Postgres."""
    followers: list[ForkServerProcess] = field(default_factory=list)

    def start(self, *works: str, **environment: str) -> ForkServerProcess:
        works = works or ("relay", "consumer")
        url = self.server.url("workers")
        process = Follower(url, self.keys_url, self.group, works, environment, self.log_url).start()
        self.followers.append(process)
        return process

    async def end_all(self) -> None:
        for process in self.followers:
            process.kill()
        for process in self.followers:
            await asyncio.to_thread(process.join, WITHIN_S)

    @asynccontextmanager
    async def writing(self, before: Writers | None = None, clock: Clock | None = None) -> AsyncIterator[Writers]:
        """While the block runs; after others, with what they know."""
        async with open_database(self.server.url("agent"), self.keys_url, clock or SystemClock()) as db:
            writers = replace(before, db=db, round=before.round + 1, count=0) if before else Writers(db, self.group)
            async with alongside(writers.write(), name="writers"):
                yield writers

    async def some_more(self, writers: Writers, count: int = 40) -> None:
        goal = writers.count + count
        await until(lambda: given(writers.count >= goal))

    async def through(self, group: str = "", topic: str = TOPIC) -> bool:
        """Whether all that was told is in the log, and the group has done all of it. It is asked in this order, so that
        what comes into the log meanwhile is not overlooked."""
        group = group or self.group
        try:
            left = await self.db.look("SELECT 1 FROM soma.outbox LIMIT 1")
            ends = await self.log.ends(topic)
            standing = await self.log.standing(group)
            letters = await self.db.look(
                "SELECT 1 FROM soma.retries WHERE \"group\" = $1 AND state <> 'dropped' LIMIT 1", group
            )
        except Unavailable:
            return False
        return not left and not letters and all(standing.get(p, first) >= end for p, (first, end) in ends.items())

    async def repeats(self) -> bool:
        """Whether something of this group is in the log more than once."""
        return bool(await self.db.look(REPEATED, TOPIC, f"%.{self.group}.%"))

    async def check(self, writers: Writers, *, repeated: bool | None = False) -> None:
        """The law. What was repeated is in the log more than once. None: it may be."""
        seen = [row["what"] for row in await self.db.look(
            'SELECT what FROM soma.seen WHERE "group" = $1 AND what LIKE $2 ORDER BY n', self.group, f"%.{self.group}.%"
        )]  # fmt: skip
        logged = [
            what_of(entry)
            for place, (first, _) in (await self.log.ends(TOPIC)).items()
            for entry in await self.log.read(place, first, 10**6)
        ]
        logged = [what for what in logged if f".{self.group}." in what]
        assert repeated in (None, len(logged) > len(set(logged)))
        logged = list(dict.fromkeys(logged))
        for told in (seen, logged):
            assert writers.acknowledged <= set(told), "something acknowledged is lost"
            assert set(told) <= writers.acknowledged | writers.doubtful, "something was never acknowledged"
            assert len(told) == len(set(told)), "something is there twice"
            for who in PEOPLE:
                theirs = [what for what in told if what.startswith(f"{who}.")]
                assert all(before < after for before, after in pairwise(theirs)), f"{who} out of order"
        assert len(writers.acknowledged) > 30

    async def stand_at_end(self, group: str, topic: str) -> None:
        await self.log.stand(group, {place: end for place, (_, end) in (await self.log.ends(topic)).items()})

    async def check_sealed(self, writers: Writers) -> None:
        """The law of the trail."""
        rows = await self.db.look(SEALED, f"conversations/%.{self.group}.%")
        sealed = [row["resource"].removeprefix("conversations/") for row in rows]
        assert writers.acknowledged <= set(sealed) <= writers.acknowledged | writers.doubtful
        assert len(sealed) == len(set(sealed))


@asynccontextmanager
async def running_server(folder: Path) -> AsyncIterator[Server]:
    """With all that writers and followers need."""
    server = Server(folder, free_port())
    await server.start()
    try:
        await schema.migrate(server.admin_url, ())
        await schema.add_tenant(server.admin_url, "acme", ())
        for room in ("agent", "workers"):
            await schema.set_room_password(server.admin_url, room, "test")
        async with schema.administering(server.admin_url) as conn:
            await conn.execute(SEEN)
        yield server
    finally:
        await server.end(signal.SIGINT)


@asynccontextmanager
async def open_scene(server: Server, keys: Path, log_url: str = "") -> AsyncIterator[Scene]:
    """A group of its own that stands at the end of the log. Its followers end with it."""
    keys_url = f"file://{keys}"
    async with (
        open_database(server.url("workers"), keys_url, SystemClock(), connections=4) as db,
        open_log(log_url, db) as log,
    ):
        scene = Scene(server, db, log, keys_url, f"g{secrets.token_hex(4)}", log_url)
        await log.make_topics()
        await scene.stand_at_end(scene.group, TOPIC)
        try:
            yield scene
        finally:
            await scene.end_all()


def was_rolled_back(refusal: BaseException) -> bool:
    """Postgres refused a statement and lives on."""
    fault = refusal.__cause__
    return isinstance(fault, asyncpg.PostgresError) and getattr(fault, "severity_en", None) == "ERROR"


async def given(truth: bool) -> bool:
    return truth


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.03)


async def until_dead(process: ForkServerProcess) -> None:
    await until(lambda: given(process.exitcode is not None))
    assert process.exitcode == -signal.SIGKILL, f"it ended with {process.exitcode}"
