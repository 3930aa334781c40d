"""The process that keeps the mesh of one machine. `soma up` starts it.

    python -m services.local.supervisor --data .soma [--port 8080] [--grpc-port 8443] [--https] [--log kafka]

What keeps it from starting is one sentence on stderr. Once it answers on its socket, its log takes what it says.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

from services.common.modes import Mode
from services.local import kafka, leftovers, postgres, valkey
from services.local.control import listening
from services.local.desk import Desk
from services.local.event_log import KAFKA, POSTGRES
from services.local.fault import Fault, of_disk
from services.local.https import Given, Wish
from services.local.journal import Journal
from services.local.logs import cut_large
from services.local.mesh import Mesh
from services.local.stack import HELD, Stack, drop_sockets, held, open_stack


def main() -> None:
    words = read_words()
    home = words.data.resolve()
    os.umask(0o077)
    take_all_files()
    try:
        with held(home) as mine:
            if not mine:
                sys.exit(HELD)
            asyncio.run(supervise(home, words, read_mode()))
    except Fault as fault:
        sys.exit(str(fault))
    except OSError as error:
        sys.exit(str(of_disk(error, home)))


async def supervise(home: Path, words: argparse.Namespace, mode: Mode) -> None:
    """Keep the mesh of a folder until told to end it. Fault when the folder, or its ports, cannot be used."""
    left = await leftovers.clear(home / "run")
    stack = open_stack(home, words.port, mode, words.grpc_port, wish(words), words.log)
    cut_large(stack.logs)
    journal = Journal.open(stack.logs)
    mesh = Mesh(stack, journal)
    mesh.record()
    async with listening(stack.control_socket, Desk(mesh).answer):
        listen_to_signals(mesh, words.attached)
        speak_into(journal)
        journal.note("mesh starting", url=stack.url, mode=mode, pid=os.getpid(), leftovers_ended=left)
        try:
            await prepare_stores(stack)
            await mesh.live()
        except Fault as fault:
            mesh.fail(str(fault))
        except OSError as error:
            mesh.fail(str(of_disk(error, home)))
    drop_sockets(home)


async def prepare_stores(stack: Stack) -> None:
    """What must be there before the programs of the stores start."""
    valkey.prepare(stack.home / "valkey", stack.valkey_file, stack.ports["valkey"], stack.passwords["valkey"])
    await postgres.prepare(stack.home / "postgres", stack.passwords["postgres"])
    if stack.log.with_kafka:
        ports = stack.ports["kafka"], stack.ports["kafka_controller"]
        await asyncio.to_thread(kafka.prepare, stack.home / "kafka", *ports, stack.passwords["kafka"])


def read_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="services.local.supervisor")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--https", action="store_true")
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--log", choices=(POSTGRES, KAFKA))
    parser.add_argument("--attached", action="store_true", help="end with stdin")
    return parser.parse_args()


def wish(words: argparse.Namespace) -> Wish:
    if words.cert:
        return Given(words.cert, words.key)
    return True if words.https else False if words.http else None


def read_mode() -> Mode:
    try:
        return Mode(os.environ.get("SOMAGENT_MODE", Mode.DEVELOPER))
    except ValueError as error:
        raise Fault(f"SOMAGENT_MODE must be one of {', '.join(Mode)}.") from error


def listen_to_signals(mesh: Mesh, attached: bool) -> None:
    """SIGTERM and SIGINT end the mesh; so does the end of the command that it is attached to."""
    loop = asyncio.get_running_loop()

    def end_with_command() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            mesh.ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, mesh.ending.set)
    if attached:
        loop.add_reader(0, end_with_command)


def speak_into(journal: Journal) -> None:
    """Whoever waits on our stderr sees its end, and knows that we answer."""
    os.dup2(journal.file, 1)
    os.dup2(journal.file, 2)


def take_all_files() -> None:
    """As many open files as the system lets us have: each stream of the edge is two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
