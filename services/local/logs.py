"""What the parts write, one file a part, none larger than twenty megabytes and its one predecessor."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MOST_BYTES = 20 * 1024 * 1024
TAIL_BYTES = 64 * 1024


def open_log(folder: Path, name: str) -> int:
    """A file descriptor that only ever appends, so that the file may be cut while it is written."""
    return os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def cut_large(folder: Path) -> None:
    """Keep a copy of each log that has grown too large, and begin it anew under the hands of its writer."""
    for path in folder.glob("*.log"):
        if path.stat().st_size > MOST_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; none when there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def last_words(path: Path, since: int) -> str:
    """The last line that a part wrote after this many bytes of its log."""
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - TAIL_BYTES))
            written = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(written.splitlines()) if line.strip()), "")
