"""`soma up`, `soma down`: start the supervisor and watch the parts come; ask it to end and watch them go."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from services.local import event_log, kafka
from services.local.commands.progress import Progress
from services.local.control import Call
from services.local.fault import Fault
from services.local.stack import HELD, control_socket_of, is_supervised

END_S = 30.0


@dataclass(frozen=True, slots=True)
class Ways:
    """What `soma up` was told. None: as last time."""

    port: int | None = None
    grpc_port: int | None = None
    https: bool | None = None
    cert: Path | None = None
    key: Path | None = None
    log: str | None = None

    def words(self) -> list[str]:
        """For the supervisor. Fault when they contradict each other."""
        if (self.cert is None) != (self.key is None):
            raise Fault("A certificate comes with its key: soma up --cert FILE --key FILE")
        if self.cert and self.https is False:
            raise Fault("A certificate is for HTTPS: leave out --http, or --cert and --key.")
        told = {
            "--port": self.port,
            "--grpc-port": self.grpc_port,
            "--cert": self.cert,
            "--key": self.key,
            "--log": self.log,
        }
        valued = [word for option, value in told.items() if value for word in (option, str(value))]
        return [*valued, *({None: [], True: ["--https"], False: ["--http"]}[self.https])]


def up(home: Path, ways: Ways, foreground: bool) -> None:
    """Return once every part is ready. Fault when the mesh cannot start, or a part does not come up."""
    began = time.monotonic()
    already = running(home)
    verdict = already["verdict"] if already else "down"
    words = ways.words()
    if already and verdict == "up":
        change = ". To change that, end it first: soma down" if words else ""
        Progress().note(f"The mesh is already up at {already['url']}{change}")
        return
    if verdict in ("starting", "failed"):
        watch_start(home, began)
        return
    if verdict == "stopping":
        wait_for_end(home)
    if event_log.wished(home, ways.log).with_kafka:
        kafka.fetch(home / "kafka", Progress().note)
    with starting(home, words, foreground) as supervisor:
        watch_start(home, began)
        if foreground:
            stay(supervisor)


def down(home: Path) -> None:
    """Return once nothing of the mesh runs any more."""
    try:
        call = Call(control_socket_of(home), {"do": "down"})
    except Fault:
        end_leftovers(home)
        return
    with Progress() as progress:
        for snapshot in call:
            progress.show(snapshot, done="stopped")
    wait_for_end(home)
    Progress().note("The mesh is down.")


def running(home: Path) -> dict[str, Any] | None:
    """How the mesh of a folder stands; None when no supervisor lives there."""
    if not home.exists():
        return None
    with contextlib.suppress(Fault):
        return next(iter(Call(control_socket_of(home), {"do": "watch"})), None)
    return None


@contextmanager
def starting(home: Path, words: list[str], foreground: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor that answers on its socket. Fault with its own words when it ends before that."""
    command = [sys.executable, "-P", "-m", "services.local.supervisor", "--data", str(home), *words]
    command += ["--attached"] if foreground else []
    ours: int | IO[bytes] = subprocess.PIPE if foreground else subprocess.DEVNULL
    supervisor = subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    said = supervisor.stderr.read().decode(errors="replace").strip() if supervisor.stderr else ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if supervisor.wait(0 if not said else 5) not in (0, HELD):
            raise Fault(said.splitlines()[-1] if said else "The supervisor ended without a word.")
    yield supervisor


def watch_start(home: Path, began: float) -> None:
    """Show the parts as they come. On Ctrl-C the mesh is taken down again."""
    snapshot: dict[str, Any] = {}
    try:
        with Progress() as progress:
            for snapshot in watching(home):
                progress.show(snapshot, done="ready")
    except KeyboardInterrupt:
        down(home)
        raise
    match snapshot.get("verdict"):
        case "up":
            Progress().ready(snapshot, time.monotonic() - began)
        case "stopping":
            raise Fault("The mesh was taken down while it was starting.")
        case _:
            if snapshot.get("trouble"):
                wait_for_end(home)
            raise Fault(why_not(snapshot))


def watching(home: Path) -> Call:
    """The start of the mesh as its supervisor tells it, once that answers."""
    deadline = time.monotonic() + END_S
    while True:
        try:
            return Call(control_socket_of(home), {"do": "watch"})
        except Fault as fault:
            if not is_supervised(home) or time.monotonic() > deadline:
                raise Fault("The supervisor ended while it was starting. See: soma logs supervisor") from fault
        time.sleep(0.02)


def why_not(snapshot: dict[str, Any]) -> str:
    """One sentence on what keeps the mesh from being ready."""
    if snapshot.get("trouble"):
        return str(snapshot["trouble"])
    for part in snapshot.get("parts", ()):
        if part["state"] == "restarting" or (part["restarts"] and part["state"] != "ready"):
            return f"{part['name']} does not stay up: it {part['said'].rstrip('.')}. See: soma logs {part['name']}"
    late = [part["name"] for part in snapshot.get("parts", ()) if part["state"] != "ready"]
    if late:
        return f"{' and '.join(late)} did not get ready in time. See: soma logs {late[0]}"
    if snapshot.get("missing"):
        return f"Every part runs, but no chat can be answered: {snapshot['missing']}"
    return "The supervisor ended. See: soma logs supervisor"


def stay(supervisor: subprocess.Popen[bytes]) -> None:
    """Wait for the mesh to end; a signal to us ends it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stdin and supervisor.stdin.close())
    supervisor.wait()


def wait_for_end(home: Path) -> None:
    """Wait for a supervisor that is ending to be gone."""
    from services.local import leftovers

    deadline = time.monotonic() + END_S
    while (is_supervised(home) or leftovers.read(home / "run")) and time.monotonic() < deadline:
        time.sleep(0.02)


def end_leftovers(home: Path) -> None:
    """What a supervisor that was killed left running."""
    import asyncio

    from services.local import leftovers

    count = asyncio.run(leftovers.clear(home / "run"))
    Progress().note(
        f"The supervisor had died; ended {count} parts that it had left running."
        if count
        else "The mesh is already down."
    )
