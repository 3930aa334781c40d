"""The archive: events become objects that are created once, read back and compared; and events again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.common import crash
from services.common.blobs import Blobs
from services.common.log.log import Entry, Log
from services.workers.archive import segments
from services.workers.archive.segments import Broken

READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """An object that was read back and found right."""

    name: str
    entries: Sequence[Entry]
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    blobs: Blobs
    log: Log

    async def keep(self, entries: Sequence[Entry]) -> Sequence[Kept]:
        """Have these events of one tenant, partition and hour in the archive, and maybe some that follow them.

        What an archiver wrote that was killed before it could say so is found and counts. It may hold fewer: the rest
        goes into another object. It may hold more, which the log must have too. Raises Broken when an object is there
        that says anything else, and leaves it as it is; Unavailable.
        """
        kept: list[Kept] = []
        while entries:
            kept.append(await self._keep(entries))
            entries = entries[len(kept[-1].entries) :]
        return kept

    async def read(self, name: str) -> Sequence[Entry]:
        """The events of an object. Raises Broken, also when it is not there."""
        found = await self.blobs.get(name)
        if found is None:
            raise Broken(f"{name} is not there")
        return await asyncio.to_thread(segments.read, name, found)

    async def _keep(self, entries: Sequence[Entry]) -> Kept:
        crash.here("archiver: due")
        name = segments.name(self.log.name, entries)
        content = await asyncio.to_thread(segments.write, self.log.name, entries)
        is_new = await self.blobs.put(name, content)
        crash.here("archiver: put")
        found = await self.blobs.get(name)
        if found is None or (is_new and found != content):
            raise Broken(f"{name} was read back otherwise than it was written")
        if found != content:
            held = await asyncio.to_thread(segments.read, name, found)
            await self._compare(name, held, entries)
            entries = held
        crash.here("archiver: compared")
        return Kept(name, entries, hashlib.sha256(found).digest(), len(found))

    async def _compare(self, name: str, held: Sequence[Entry], entries: Sequence[Entry]) -> None:
        shared = min(len(held), len(entries))
        if list(held[:shared]) != list(entries[:shared]) or not await self._has(held[shared:]):
            raise Broken(f"{name} holds other events than the log")

    async def _has(self, entries: Sequence[Entry]) -> bool:
        """Whether the log has these, of one partition, just so."""
        missing = {entry.offset: entry for entry in entries}
        start = entries[0].offset if entries else 0
        while missing:
            found = await self.log.read(entries[0].place, start, READ_AT_ONCE)
            if not found or any(missing.pop(entry.offset, entry) != entry for entry in found):
                return False
            start = found[-1].offset + 1
        return True
