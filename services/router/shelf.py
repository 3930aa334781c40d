"""Holds the catalogue that is good now, and looks once a second whether its files have changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from services.common.telemetry import log
from services.router.catalog import Catalog, Sources, Unreadable

LOOK_EVERY_S = 1.0
MOST_SECRETS = 512

Stamp = tuple[tuple[str, int, int], ...]


class Shelf:
    """The last good catalogue. A broken file changes nothing but the log."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._stamp: Stamp | None = None
        self.catalog: Catalog = sources.read_ours()
        self.look()

    def look(self) -> bool:
        """Read again if a file has changed. True when there is a new catalogue."""
        files = stamp_of(self._sources.providers_file, self._sources.secrets_dir)
        stamp = (*files, *((name, hash(secret), 0) for name, secret in sorted(self._sources.from_vault.items())))
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.catalog = self._sources.read()
        except Unreadable as fault:
            log().error("catalogue kept as it was", problem=str(fault))
            return False
        log().info(
            "catalogue read", offers=len(self.catalog.offers), open=sum(not o.closed for o in self.catalog.offers)
        )
        return True

    async def watch(self, changed: Callable[[], None] = lambda: None) -> None:
        """Look every second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.look():
                changed()


def stamp_of(file: Path | None, folder: Path | None) -> Stamp:
    """Name, time and size of all that a catalogue is read from. What is not there has no part in it."""
    found = [*_entry(file), *(_entries(folder) if folder else ())]
    return tuple(sorted(found))


def _entry(path: Path | None) -> Stamp:
    try:
        seen = path.stat() if path else None
    except OSError:
        return ()
    return ((str(path), seen.st_mtime_ns, seen.st_size),) if seen else ()


def _entries(folder: Path) -> Stamp:
    try:
        with os.scandir(folder) as found:
            return tuple(
                e for entry, _ in zip(found, range(MOST_SECRETS), strict=False) for e in _entry(Path(entry.path))
            )
    except OSError:
        return ()
