"""A small disk of its own, which can be filled."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CHUNK = bytes(1024 * 1024)


@dataclass(frozen=True, slots=True)
class Disk:
    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave nothing."""
        with self.filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(CHUNK)
            except OSError as fault:
                if fault.errno != errno.ENOSPC:
                    raise

    def empty(self) -> None:
        self.filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """In memory, at the folder, which is made. Skips where it cannot be mounted."""
    folder.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small file system")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
