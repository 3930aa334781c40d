"""`soma up` in a folder that has been up before: to ready, and to the first token of this machine's small model.

And how much of it a Postgres alone takes.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.figure import Figure
from tests.stores import running_postgres
from tests.system.mesh import Mesh, running_mesh


def measure(scale: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="soma-up-") as folder:
        began = time.monotonic()
        with running_mesh(Path(folder) / "soma", "DEVELOPER") as mesh:
            first_s = time.monotonic() - began
            first_token(mesh)
            mesh.down()
            began = time.monotonic()
            mesh.up()
            ready_s = time.monotonic() - began
            first_token(mesh)
            token_s = time.monotonic() - began
        new_s, old_s = (asyncio.run(postgres_ready(Path(folder) / "postgres")) for _ in range(2))
    return [
        Figure("up, warm, to the first token", token_s, "s", 20, at_most=True),
        Figure("up, warm, to ready", ready_s, "s"),
        Figure("up in an empty folder, to ready", first_s, "s"),
        Figure("Postgres in an empty folder, to ready", new_s, "s", 1.5, at_most=True),
        Figure("Postgres in its folder, to ready", old_s, "s", 0.5, at_most=True),
    ]


def first_token(mesh: Mesh) -> None:
    """Ask by the command line, as a person does, and wait for the first bytes of the answer."""
    chat = subprocess.Popen(
        mesh.command("chat", "Say one word."), env=mesh.surroundings(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert chat.stdout
        assert chat.stdout.read(1), "no answer"
    finally:
        chat.kill()
        chat.wait(10)
        if chat.stdout:
            chat.stdout.close()


async def postgres_ready(folder: Path) -> float:
    began = time.monotonic()
    async with running_postgres(folder):
        return time.monotonic() - began
