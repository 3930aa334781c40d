"""Files for the owner's eyes, put into place whole: a reader, or the next start, sees all of one or the one before."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, lasting: bool = True) -> None:
    """Write a 0600 file. A lasting one is on disk before it is in place, so that losing power leaves no empty file."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if lasting:
            os.fsync(file.fileno())
    fresh.replace(path)
