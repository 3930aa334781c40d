"""What stops the mesh or a command: one sentence that the person at the terminal can act on."""

from __future__ import annotations

import errno
from pathlib import Path


class Fault(Exception):  # noqa: N818 - it is told to a person, not to a programmer
    """Its text is the whole message."""


def of_disk(error: OSError, where: Path) -> Fault:
    """The sentence for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault(f"The disk that holds {where} is full. Free some space, or choose another folder with --data.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Fault(f"{error.filename or where} cannot be written. Choose another folder with --data.")
    return Fault(f"{error.filename or where} cannot be used: {error.strerror or error}.")
