"""Files that are there for good once they are said to be."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def keep(file: Path, content: bytes) -> None:
    """Write a new file for its owner's eyes, whole or not at all, on disk when this returns; and the folders that it
    needs. FileExistsError when there is one."""
    missing = [folder for folder in reversed(file.parents) if not folder.exists()]
    for folder in missing:
        folder.mkdir(exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        os.link(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)
    for folder in (file.parent, *(folder.parent for folder in missing)):
        settle(folder)


def settle(path: Path) -> None:
    """Put a file, or a folder's entries, on disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
