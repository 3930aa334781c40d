"""An audit file put into place whole: until then it is beside, under a name of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from services.common import zstd
from services.common.trail.trail import Reading
from services.local.audit.export import Extent, write


async def write_file(db: Reading, extent: Extent, out: Path, seen: Callable[[int], None]) -> None:
    """OSError when it cannot be written; then nothing is left."""
    fresh = out.with_name(f".{out.name}.fresh")
    try:
        with fresh.open("wb") as file:
            with zstd.writing(file) as packed:
                await write(db, extent, packed, seen)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(out)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
