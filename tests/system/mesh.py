"""A mesh of this machine in the hands of a test: its command line, its parts, its rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.common.log.kafka.log import open_kafka_log
from services.common.log.topics import TOPICS
from services.local import leftovers, postgres
from services.local.control import Call
from services.local.event_log import KAFKA
from services.local.parts import log_url
from services.local.ports import free_port
from services.local.process import Process
from services.local.stack import control_socket_of, load_stack
from services.local.wheels import postgres_program
from tests.kafka import share_jars

COMMAND_S = 100.0
LOG = os.environ.get("SOMA_TEST_LOG", "")
"""The engine of the log in each mesh of the tests; Postgres without."""
WAITING = """
SELECT id, aggregatetype AS topic, type, payload::jsonb AS body FROM soma.outbox
UNION SELECT id, topic, type, payload::jsonb FROM soma.log
"""
TOLD = """
every AS (SELECT * FROM json_to_recordset({told}) AS told (id uuid, topic text, type text, body jsonb)
          UNION SELECT * FROM ({waiting}) AS waiting),
told AS (SELECT * FROM every WHERE topic <> 'agent.audit'),
audited AS (SELECT id, type AS action, body FROM every WHERE topic = 'agent.audit')
"""
"""What rooms told, wherever the relay has it now."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """One mesh: `url` is its edge, `home` its folder."""

    home: Path
    port: int
    mode: str = "TEST"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def soma(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `soma WORDS` to its end. With check, an exit code other than 0 fails the test."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=COMMAND_S, check=False,
            env=self.surroundings(environment), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"soma {' '.join(words)} ended with {done.returncode}: {done.stderr}{self.last_words()}"
            )
        return done

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "services.local", *words]

    def surroundings(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        ours = {"SOMA_DATA": str(self.home), "SOMAGENT_MODE": self.mode, "COLUMNS": "200"}
        return {**os.environ, **ours, **self.environment, **(more or {})}

    def up(self, *words: str) -> None:
        self.soma(*self.up_words(*words))

    def up_words(self, *words: str) -> Sequence[str]:
        """With a port for gRPC that no other mesh wants, and the engine of these tests, unless the words name one."""
        words = ("up", "--port", str(self.port), *words)
        if "--grpc-port" not in words and not (self.home / "run/ports.json").exists():
            words = (*words, "--grpc-port", str(free_port()))
        if LOG and "--log" not in words:
            words = (*words, "--log", LOG)
        if KAFKA in words:
            share_jars(self.home / "kafka")
        return words

    def down(self) -> None:
        self.soma("down")

    def status(self) -> dict[str, Any]:
        """`soma status --json`, with the parts by name."""
        answer: dict[str, Any] = json.loads(self.soma("status", "--json").stdout)
        answer["parts"] = {part["name"]: part for part in answer["parts"]}
        return answer

    def token(self, tenant: str = "acme", person: str = "member", *roles: str) -> str:
        words = [word for role in roles for word in ("--role", role)]
        return self.soma("token", "--tenant", tenant, "--person", person, *words).stdout.strip()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What a query gives to Postgres' administrator. `told` has the events, `audited` those of the audit trail."""
        told = [*self.query(WAITING), *told_to_kafka(self.home)] if self.on_kafka else []
        words = f"$told${json.dumps(told)}$told$"
        return self.query(sql, f"WITH {TOLD.format(told=words, waiting=WAITING)}")

    def query(self, sql: str, before: str = "") -> list[dict[str, Any]]:
        stack = load_stack(self.home)
        url = postgres.url(stack.ports["postgres"], stack.passwords["postgres"])
        done = subprocess.run(
            [postgres_program("psql"), url, "-XAtf", "-"], capture_output=True, text=True, timeout=20, check=False,
            input=f"{before} SELECT coalesce(json_agg(found), '[]') FROM ({sql}) AS found",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    @property
    def on_kafka(self) -> bool:
        return load_stack(self.home).log.engine == KAFKA

    def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a part, without the time that a question for health takes; returns its pid."""
        snapshot = next(iter(Call(control_socket_of(self.home), {"do": "watch"})))
        [pid] = [child["pid"] for child in snapshot["parts"] if child["name"] == part]
        os.kill(pid, number)
        return int(pid)

    def processes(self) -> list[Process]:
        """The supervisor and every part that lives."""
        return leftovers.read(self.home / "run")

    def last_words(self) -> str:
        logs = sorted((self.home / "logs").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def told_to_kafka(home: Path) -> list[dict[str, Any]]:
    """What is in the topics."""
    stack = load_stack(home)

    async def read() -> list[dict[str, Any]]:
        async with open_kafka_log(log_url(stack, KAFKA), None) as log:
            spans = {place: span for topic in TOPICS for place, span in (await log.ends(topic)).items()}
            found = [e for place, (first, end) in spans.items() for e in await log.read(place, first, end - first)]
        return [{"id": str(e.id), "topic": e.topic, "type": e.type, "body": json.loads(e.payload)} for e in found]

    return asyncio.run(read())


@contextmanager
def running_mesh(home: Path, mode: str, *words: str) -> Iterator[Mesh]:
    """A mesh that is up, on a free port; at the end nothing of it runs."""
    mesh = Mesh(home, free_port(), mode)
    try:
        mesh.up(*words)
        yield mesh
    finally:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            mesh.down()
        for process in mesh.processes():
            process.signal(signal.SIGKILL)


def wait_until(holds: Callable[[], bool], within_s: float = 60.0, what: str = "it") -> None:
    """Look until a condition holds. A look that began in time counts, however long it took."""
    deadline, began = time.monotonic() + within_s, time.monotonic()
    while not holds():
        assert began < deadline, f"{what} did not come true within {within_s:.0f} s"
        time.sleep(0.05)
        began = time.monotonic()


def check_whole(mesh: Mesh) -> None:
    """Each part is ready at once, and says that it is well when the machine lets it."""
    assert {part["state"] for part in mesh.status()["parts"].values()} == {"ready"}
    wait_until(lambda: is_whole(mesh.status()), what="the mesh is whole")


def is_whole(status: dict[str, Any]) -> bool:
    return status["missing"] == "" and all(part["health"] == "well" for part in status["parts"].values())
