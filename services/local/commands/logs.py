"""`soma logs`: what the parts wrote, and what they write."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.local.fault import Fault
from services.local.logs import tail

LOOK_S = 0.2
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
TIME = re.compile(r"\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,6})?)")
HIDDEN = ("timestamp", "level", "event", "room")


def logs(home: Path, part: str | None, follow: bool, lines: int) -> None:
    """Print the last lines of one log or of all, in order of time; then, with follow, what comes."""
    files = sorted((home / "logs").glob(f"{part or '*'}.log"))
    if not files:
        known = ", ".join(file.stem for file in sorted((home / "logs").glob("*.log")))
        raise Fault(f"There is no log of {part}. There are {known}." if known else f"There are no logs in {home}.")
    printer = Printer([file.stem for file in files])
    sizes = {file: file.stat().st_size for file in files}
    last: list[tuple[str, str, str]] = []
    for file in files:
        last.extend(timed(file.stem, tail(file, lines)))
    for _, name, line in sorted(last, key=lambda entry: entry[0]):
        printer.print(name, line)
    while follow:
        time.sleep(LOOK_S)
        for file in files:
            sizes[file], fresh = news(file, sizes[file])
            for line in fresh:
                printer.print(file.stem, line)


def timed(name: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each line with its time, or that of the line before it."""
    moment = ""
    for line in lines:
        found = TIME.search(line[:64])
        moment = f"{found[1]}T{found[2]}" if found else moment
        yield moment, name, line


def news(file: Path, seen: int) -> tuple[int, list[str]]:
    """How far the file has been read, and its whole lines since; from its beginning when it was cut."""
    size = file.stat().st_size
    if size == seen:
        return seen, []
    seen = 0 if size < seen else seen
    with file.open("rb") as reading:
        reading.seek(seen)
        whole, newline, _ = reading.read(size - seen).rpartition(b"\n")
    return seen + len(whole) + len(newline), whole.decode(errors="replace").splitlines() if newline else []


class Printer:
    """Lines for a person on a terminal, as they are for a program."""

    def __init__(self, names: list[str]) -> None:
        from rich.console import Console

        self.console = Console(highlight=False)
        self.width = max(map(len, names))
        self.colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}

    def print(self, name: str, line: str) -> None:
        if not self.console.is_terminal:
            prefix = f"{name:{self.width}} " if len(self.colours) > 1 else ""
            sys.stdout.write(f"{prefix}{line}\n")
            return
        from rich.text import Text

        text = Text(f"{name:{self.width}} ", self.colours[name]) if len(self.colours) > 1 else Text()
        self.console.print(text.append_text(styled(line)), soft_wrap=True)


def styled(line: str) -> Any:
    """A JSON line as time, event and facts; any other as it is."""
    from rich.text import Text

    try:
        entry = json.loads(line)
        moment, event = str(entry["timestamp"]), str(entry["event"])
    except (ValueError, KeyError, TypeError):
        return Text(line)
    text = Text(f"{moment[11:23]} ", "dim").append(event, LEVELS.get(str(entry.get("level")), "bold"))
    for name, value in entry.items():
        if name not in HIDDEN:
            text.append(f"  {name}=", "dim").append(str(value))
    return text
