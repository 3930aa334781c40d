"""A real Postgres 18 on one machine: its folder and its command.

Postgres refuses to run as root, and its folder may lie below one that only root may enter. So root runs it in a user
namespace, where root's files look like nobody's; where namespaces are barred, as nobody with the right to pass folders.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from services.local.fault import Fault
from services.local.process import runs_in
from services.local.wheels import postgres_program

ADMIN = "soma_admin"
DATABASE = "soma"
NOBODY = 65534

NAMESPACE = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
PASSING = "+dac_override,+dac_read_search"
CAPABLE = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    f"--bounding-set=-all,{PASSING}", f"--inh-caps=-all,{PASSING}", f"--ambient-caps=-all,{PASSING}",
)  # fmt: skip

SETTINGS = {
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "work_mem": "2MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "wal_buffers": "2MB",
    "huge_pages": "off",
    "io_method": "sync",
    "jit": "off",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "1",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


def command(folder: Path, port: int) -> tuple[str, ...]:
    """The server in the foreground; it writes its log to stderr. SIGINT stops it in order."""
    settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    return (*disguise(folder), str(postgres_program("postgres")), "-D", str(folder), "-p", str(port), *settings)


def ready_command(port: int) -> tuple[str, ...]:
    """A program that ends with 0 once the server takes connections."""
    return (str(postgres_program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1")


def url(port: int, password: str, user: str = ADMIN, database: str = DATABASE) -> str:
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


async def prepare(folder: Path, password: str) -> bool:
    """Make the folder on first start, and clear away what a crash left. True when it was made now."""
    forget_dead_server(folder)
    own(folder)
    if (folder / "PG_VERSION").exists():
        return False
    half = folder.with_name(f"{folder.name}.half")
    await asyncio.to_thread(make, half, password)
    half.rename(folder)
    return True


def make(folder: Path, password: str) -> None:
    """initdb with one administrator, passwords on every connection, and an empty database."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    own(folder)
    with tempfile.NamedTemporaryFile("w", prefix="soma-") as secret:
        secret.write(password)
        secret.flush()
        _run(
            [postgres_program("initdb"), "-D", folder, "-U", ADMIN, f"--pwfile={secret.name}", "-A", "scram-sha-256",
             "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
             "--no-instructions"], folder,
        )  # fmt: skip
    _run([postgres_program("postgres"), "--single", "-D", folder, "postgres"], folder, f"CREATE DATABASE {DATABASE}\n")


def _run(command: Sequence[Path | str], folder: Path, stdin: str = "") -> None:
    words = [*disguise(folder), *map(str, command)]
    result = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if result.returncode == 0:
        return
    if "No space left" in result.stderr:
        raise Fault(f"The disk that holds {folder.parent} is full. Free some space, or choose a folder with --data.")
    said = next((line for line in result.stderr.splitlines() if "error" in line.lower() or "FATAL" in line), "")
    raise Fault(
        f"Postgres cannot use the folder {folder.parent}: {said.partition(': ')[2] or 'it gave no reason'}. "
        "Choose another one with --data."
    )


def forget_dead_server(folder: Path) -> None:
    """Remove a lock file whose server is gone: Postgres would take any process with that pid for it."""
    lock = folder / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if not runs_in(pid, "postgres", folder):
        lock.unlink(missing_ok=True)


def own(folder: Path) -> None:
    """Give the folder to whom the server will run as, so that a machine may change its mind about namespaces."""
    if os.geteuid() != 0 or not folder.exists():
        return
    owner = NOBODY if disguise(folder) == CAPABLE else 0
    if folder.stat().st_uid != owner:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)


@functools.cache
def disguise(folder: Path) -> tuple[str, ...]:
    """The words before a command of Postgres: none for a plain user, a way not to be root for root."""
    if os.geteuid() != 0:
        return ()
    place = folder if folder.exists() else folder.parent
    for way in (NAMESPACE, CAPABLE):
        if _works(*way, "ls", str(place)) and _works(*way, str(postgres_program("postgres")), "--version"):
            return way
    raise Fault(
        f"Postgres does not run as root, and this machine bars both ways around it for {place}. "
        "Run soma as a plain user, or choose another folder with --data."
    )


def _works(*command: str) -> bool:
    found = shutil.which(command[0])
    return found is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
