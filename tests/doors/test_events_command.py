"""`soma events` on the database of a mesh: what it shows, what it does, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.common import schema
from services.common.clock import SystemClock
from services.common.db import open_database
from services.common.log.postgres.log import open_postgres_log
from services.common.modes import Mode
from services.local import postgres
from services.local.at_database import operator
from services.local.commands import events
from services.local.database import admin_url_of, bring_up_to_date
from services.local.fault import Fault
from services.local.parts import database_url
from services.local.ports import free_port
from services.local.stack import Stack, open_stack
from tests.consuming import SEEN, TOPIC, Deed, Seeing, World

GROUP, LONG_AGO = "minder", "2020-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Mesh:
    """The folder of a mesh of which Postgres alone runs."""

    stack: Stack

    @property
    def home(self) -> Path:
        return self.stack.home

    def do(self, work: Callable[[World], Awaitable[Any]]) -> Any:
        """In the world of its log."""

        async def doing() -> Any:
            url, clock = database_url(self.stack, "workers"), SystemClock()
            async with open_database(url, self.stack.keys_url, clock) as db, open_postgres_log(db) as log:
                await log.make_topics()
                return await work(World("", url, db, log, GROUP))

        return asyncio.run(doing())

    def seen(self) -> list[str]:
        return list(self.do(lambda world: world.seen()))

    def follow(self, *bad: str) -> None:
        """Until everything is handled or dead."""

        async def fail(_tx: Any, entries: Any) -> None:
            if any(f"conversations/{what}" in entry.payload.decode() for entry in entries for what in bad):
                raise ValueError("it is bad")

        async def work(world: World) -> None:
            async with world.running(world.consumer(Seeing(GROUP, before=fail))):
                await world.until_through()

        self.do(work)

    def letter(self, capsys: pytest.CaptureFixture[str], state: str = "dead") -> str:
        """The id of the one letter in that state."""
        capsys.readouterr()
        events.show(self.home, "", GROUP, as_json=True)
        [letter] = [one for one in json.loads(capsys.readouterr().out) if one["state"] == state]
        return str(letter["id"])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    stack = open_stack(tmp_path_factory.mktemp("mesh") / "soma", free_port(), Mode.TEST)
    folder, port = stack.home / "postgres", stack.ports["postgres"]
    asyncio.run(postgres.prepare(folder, stack.passwords["postgres"]))
    server = subprocess.Popen(postgres.command(folder, port), start_new_session=True)
    try:
        end = time.monotonic() + 20
        while subprocess.run(postgres.ready_command(port), check=False).returncode:
            assert time.monotonic() < end
            time.sleep(0.05)
        asyncio.run(bring_up_to_date(stack))
        asyncio.run(make_seen(stack))
        yield Mesh(stack)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


async def make_seen(stack: Stack) -> None:
    async with schema.administering(admin_url_of(stack)) as conn:
        await conn.execute(SEEN)


@pytest.fixture
def told(mesh: Mesh) -> Mesh:
    """Three events of somebody, of which the first is dead."""

    async def work(world: World) -> None:
        async with world.db.own(operator()) as tx:
            for table in ("seen", "retries", "handled"):
                await tx.execute(f'DELETE FROM soma.{table} WHERE "group" = $1', GROUP)
        await world.tell(Deed("p_ada", "bad"), Deed("p_ada", "2"), Deed("p_ada", "3"))

    mesh.do(work)
    mesh.follow("bad")
    assert mesh.seen()[-2:] == ["2", "3"]
    return mesh


def audited(mesh: Mesh, action: str) -> list[Any]:
    query = "SELECT tenant, payload::jsonb->>'resource' AS resource FROM soma.outbox WHERE type = $1 ORDER BY seq"
    return list(mesh.do(lambda world: world.db.look(query, action)))


def test_show_lists_what_is_dead_and_why_and_one_in_full(told: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    id = told.letter(capsys)
    events.show(told.home, "", "", as_json=False)
    assert "1 dead, 0 waiting" in capsys.readouterr().out
    events.show(told.home, id, "", as_json=False)
    full = capsys.readouterr().out
    assert "ValueError: it is bad" in full
    assert '"conversation": "conversations/bad"' in full


def test_however_narrow_the_window_only_the_reason_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = {
        "id": "0192f0c1-2345-7000-8000-0123456789ab", "group": "reconciler-of-all", "type": "conversation.created",
        "tenant": "acme", "state": "dead", "attempt": 8, "due": None,
        "reason": "It [/is]\x1b[2J " + "so " * 100 + "long.",
    }  # fmt: skip
    events.in_short([letter])
    piped = capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    events.in_short([letter])
    for said in (piped, capsys.readouterr().out):
        line = next(line for line in said.splitlines() if "acme" in line)
        assert all(str(letter[name]) in line for name in ("id", "group", "type", "state", "attempt"))
        assert "It [/is]" in line
        assert "\x1b[2J" not in said
        assert ("long." in line) == (said is piped)


def test_an_event_that_python_cannot_hold_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    events.in_full([{"event": events.event_of(payload)} for payload in (b"[" * 90_000, b'["\\ud800"]', b"\xff")])
    assert "[[[[" in capsys.readouterr().out


def test_a_retried_event_is_handled_and_gone_from_the_list(told: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    id = told.letter(capsys)
    assert "tried again" in events.retry(told.home, id, False, "")
    told.follow()
    assert told.seen()[-1] == "bad"
    events.show(told.home, "", GROUP, as_json=False)
    assert events.NONE in capsys.readouterr().out
    assert audited(told, "event.retried")[-1]["resource"] == f"groups/{GROUP}/events/{id}"


def test_all_that_is_dead_of_a_group_can_be_retried(told: Mesh) -> None:
    assert "1 event of minder is tried again" in events.retry(told.home, "", True, GROUP)
    told.follow()
    assert told.seen()[-1] == "bad"


def test_a_dropped_event_is_kept_with_who_says_why_and_never_tried(
    told: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    id = told.letter(capsys)
    events.drop(told.home, id, "", "known and harmless")
    told.follow()
    assert "bad" not in told.seen()
    capsys.readouterr()
    events.show(told.home, id, "", as_json=True)
    [letter] = json.loads(capsys.readouterr().out)
    assert (letter["state"], letter["reason"]) == ("dropped", "known and harmless")
    act = audited(told, "event.dropped")[-1]
    assert (act["tenant"], act["resource"]) == ("acme", f"groups/{GROUP}/events/{id}")


def test_a_replay_says_how_many_events_come_again(told: Mesh) -> None:
    before = told.seen()
    said = events.replay(told.home, TOPIC, LONG_AGO, "", "acme", GROUP)
    assert "gets them again" in said
    told.follow()
    assert told.seen()[len(before) :][-3:] == ["bad", "2", "3"]
    assert "is a new group" in events.replay(told.home, TOPIC, LONG_AGO, "", "", f"{GROUP}-2")
    assert "Nothing to replay" in events.replay(told.home, TOPIC, LONG_AGO, "2020-01-02T00:00:00Z", "", GROUP)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda home: events.show(home, "abc", "", False), "no event's id"),
        (lambda home: events.show(home, "0" * 32, "", False), "No group has trouble"),
        (lambda home: events.retry(home, "", False, ""), "Say which"),
        (lambda home: events.retry(home, "", True, ""), "wants --group"),
        (lambda home: events.drop(home, "0" * 32, "", " "), "--why"),
        (lambda home: events.replay(home, "agent.mesages", LONG_AGO, "", "", "g"), "There are: agent"),
        (lambda home: events.replay(home, TOPIC, "yesterday", "", "", "g"), "RFC 3339"),
        (lambda home: events.replay(home, TOPIC, "0001-01-01T00:00:00+14:00", "", "", "g"), "RFC 3339"),
        (lambda home: events.replay(home, TOPIC, LONG_AGO, "9999-12-31T23:59:59-14:00", "", "g"), "RFC 3339"),
        (lambda home: events.replay(home, TOPIC, "2020-01-01T00:00:00", "", "", "g"), "time zone"),
        (lambda home: events.replay(home, TOPIC, LONG_AGO, "2019-01-01T00:00:00Z", "", "g"), "before"),
        (lambda home: events.replay(home, TOPIC, LONG_AGO, "", "", "A B"), "cannot be a group"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(mesh: Mesh, wrong: Callable[[Path], object], said: str) -> None:
    with pytest.raises(Fault, match=said):
        wrong(mesh.home)


def test_a_mesh_that_is_down_is_said_in_a_sentence(tmp_path: Path) -> None:
    stack = open_stack(tmp_path / "soma", free_port(), Mode.TEST)
    with pytest.raises(Fault, match="soma up"):
        events.show(stack.home, "", "", False)
