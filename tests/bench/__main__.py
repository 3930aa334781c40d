"""Runs the benches, each in a process of its own, and prints what they found.

python -m tests.bench [--only NAME] [--scale 0.2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console

from tests.bench.figure import Figure, Missing, show

BENCHES = (
    "echo", "edge", "router", "decide", "gateway", "chats", "up", "room", "log", "kafka", "audit", "trail",
)  # fmt: skip
DEADLINE_S = 120.0
DEADLINES_S = {"gateway": 400.0}
"""Of those that take longer."""
END_S = 30.0
MOST_WORDS = 6000


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench", description="What the house costs, as ratios in one run.")
    parser.add_argument("--only", choices=BENCHES, action="append", help="May be given more than once.")
    parser.add_argument("--scale", type=float, default=1.0, help="How long to measure; below 1 the figures are rough.")
    parser.add_argument("--json", type=Path, help="Write the figures to this file too.")
    parser.add_argument("--here", choices=BENCHES, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.here:
        return measure_here(words.here, words.scale, words.json)
    return measure_all(words.only or BENCHES, words.scale, words.json)


def measure_here(bench: str, scale: float, file: Path) -> None:
    """Measure in this process, and leave the figures in the file, or what is missing."""
    try:
        found = [asdict(figure) for figure in import_module(f"tests.bench.{bench}").measure(scale)]
    except Missing as lack:
        file.write_text(json.dumps(str(lack)))
    else:
        file.write_text(json.dumps(found))


def measure_all(benches: tuple[str, ...], scale: float, file: Path | None) -> None:
    console, began = wide_console(), time.monotonic()
    found: dict[str, list[Figure]] = {}
    failed = []
    for bench in benches:
        with console.status(f"{bench} …"):
            figures = measure_apart(bench, scale)
        if figures is None:
            failed.append(bench)
            continue
        if isinstance(figures, str):
            console.print(f"{bench} skipped: {figures}")
            continue
        found[bench] = figures
        show(bench, figures, console)
    behind = sum(figure.is_behind for figures in found.values() for figure in figures)
    missing = "".join(f"; {bench} failed" for bench in failed)
    console.print(f"{time.monotonic() - began:.0f} s; {behind} behind their goal{missing}")
    if file:
        whole = {bench: [asdict(figure) for figure in figures] for bench, figures in found.items()}
        file.write_text(json.dumps(whole, indent=1))
    sys.exit(bool(failed))


def wide_console() -> Console:
    """The terminal; a file or pipe gets lines long enough for the notes."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def measure_apart(bench: str, scale: float) -> list[Figure] | str | None:
    """Measure in a process of its own. What is missing for that; None when it failed, or was stopped at its
    deadline."""
    with tempfile.TemporaryDirectory(prefix="soma-bench-") as folder:
        file, said = Path(folder) / "figures.json", Path(folder) / "said"
        command = [sys.executable, "-m", "tests.bench", "--here", bench, "--scale", str(scale), "--json", str(file)]
        with said.open("wb") as words:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True,
                env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
            )  # fmt: skip
        try:
            child.wait(DEADLINES_S.get(bench, DEADLINE_S))
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as end:
            stop(child)
            if isinstance(end, KeyboardInterrupt):
                raise
        if child.returncode or not file.exists():
            sys.stderr.write(said.read_text(errors="replace")[-MOST_WORDS:])
            return None
        found = json.loads(file.read_text())
        return found if isinstance(found, str) else [Figure(**figure) for figure in found]


def stop(child: subprocess.Popen[bytes]) -> None:
    """Let it take its own children down; then end it."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
