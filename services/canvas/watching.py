"""Watching a canvas: what changed after a revision, then what changes. Postgres is what is true; bells only wake."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from services.canvas import patches, store
from services.canvas.bells import Bell
from services.canvas.canvas import Canvas
from services.canvas.looking import Changed, Look, enter, look
from services.common.caller import Caller
from services.common.db import Transaction
from services.common.errors import Invalid, Refusal
from services.common.names import conversation_id, no_conversation
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import CanvasDone, CanvasEvent, CanvasHeartbeat, Patch, PatchOperation

WATCH_S = 300.0
HEARTBEAT_S = 15.0
HEARTBEAT = CanvasEvent(heartbeat=CanvasHeartbeat())
DONE, DELETED = CanvasEvent(done=CanvasDone()), CanvasEvent(done=CanvasDone(deleted=True))
LATER_S = 0.05
"""How long after its lease a writing turn is looked at: not a moment too early."""
AT_ONCE = 8
"""How many watches read at once. The other half of the room's connections is for calls, however many are rung."""


@dataclass(frozen=True, slots=True)
class Watching:
    canvas: Canvas
    watch_s: float = WATCH_S
    heartbeat_s: float = HEARTBEAT_S
    readers: asyncio.Semaphore = field(init=False, default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @asynccontextmanager
    async def watch(self, caller: Caller, request: wire.WatchCanvasRequest) -> AsyncIterator[Watch]:
        """A watch that was let in. Raises NotFound CONVERSATION_UNKNOWN, Invalid REVISION_UNKNOWN, Exhausted ROOM_BUSY,
        Unavailable ROOM_UNAVAILABLE."""
        conversation, missing = conversation_id(request.parent), no_conversation(request.parent)
        after = request.after_revision
        await self.canvas.conversations.check(caller, conversation, missing)
        with self.canvas.bells.hang(caller.tenant, conversation) as bell:
            async with self.readers, self.canvas.db.upkeep(caller) as tx:
                await enter(tx, conversation)
                first = await look(tx, conversation, after, first=True)
            if after > first.revision:
                message = f"The canvas is at revision {first.revision}. Watch from 0."
                raise Invalid("REVISION_UNKNOWN", message, revision=str(first.revision))
            yield Watch(self, caller, conversation, bell, first, after)

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncIterator[Transaction]:
        """A transaction in which a watch reads, when it is its turn."""
        async with self.readers, self.canvas.db.tenant(caller) as tx:
            yield tx

    async def drain(self, grace_s: float) -> None:
        """Let no more in, and end all that watch in band."""
        await self.canvas.bells.close(grace_s)


@dataclass(slots=True)
class Watch:
    room: Watching
    caller: Caller
    conversation: UUID
    bell: Bell
    first: Look
    seen: int
    """The revision that it has come to."""
    shown: dict[UUID, patches.Shown] = field(default_factory=dict)
    lapses: dict[UUID, float] = field(default_factory=dict)
    """When panes that are being written are so no more, unless the turn says more. By time.monotonic()."""

    async def follow(self) -> AsyncIterator[CanvasEvent]:
        """To the last event, which tells how it ended."""
        try:
            async for event in self._follow():
                yield event
        except Refusal as refusal:
            yield CanvasEvent(error=refusal.failure())

    async def _follow(self) -> AsyncIterator[CanvasEvent]:
        found, said, end = self.first, time.monotonic(), time.monotonic() + self.room.watch_s
        while True:
            async for event in self._tell(found):
                said = time.monotonic()
                yield event
            if found.deleted:
                yield DELETED
                return
            while not await self._woken(min(said + self.room.heartbeat_s, end)):
                if time.monotonic() >= end:
                    break
                if time.monotonic() >= said + self.room.heartbeat_s:
                    said = time.monotonic()
                    yield HEARTBEAT
            if time.monotonic() >= end or self.room.canvas.bells.closing:
                yield DONE
                return
            found = await self._look()

    async def _woken(self, until: float) -> bool:
        """Whether there is something to look at before that time."""
        lapse = min(self.lapses.values(), default=math.inf)
        return await self.bell.wait(min(lapse, until) - time.monotonic()) or lapse <= time.monotonic()

    async def _look(self) -> Look:
        due = [pane for pane, lapse in self.lapses.items() if lapse <= time.monotonic()]
        for pane in due:
            del self.lapses[pane]
        async with self.room.reading(self.caller) as tx:
            return await look(tx, self.conversation, self.seen, due)

    async def _tell(self, found: Look) -> AsyncIterator[CanvasEvent]:
        """Patches of a size that goes over the wire. Each says how far it has come; of a snapshot the last does."""
        operations = self._begin(found)
        parts = list(patches.parts([(pane, pane.size_bytes) for pane in found.panes])) or [[]]
        for part in parts:
            operations += await self._show(part)
            last, before = part is parts[-1], self.seen
            self.seen = found.revision if last else min(max(self.seen, part[-1].revision), found.revision)
            if operations or self.seen > before or (last and found.whole):
                revision = None if found.whole and not last else self.seen
                yield CanvasEvent(revision=revision, patch=Patch(operations=operations))
            operations = []
        self.bell.seen = self.seen

    def _begin(self, found: Look) -> list[PatchOperation]:
        """What has gone, and the layout; of a snapshot the document without panes."""
        if found.whole and found.layout:
            self.shown, self.lapses = {}, {}
            return [patches.whole(found.layout)]
        operations = []
        for pane in found.gone:
            operations += patches.removed(pane, self.shown.pop(pane, None))
            self.lapses.pop(pane, None)
        return [*operations, patches.arranged(found.layout)] if found.layout else operations

    async def _show(self, part: list[Changed]) -> list[PatchOperation]:
        """The panes as they are now. One that has gone meanwhile comes as such with the next look."""
        if not part:
            return []
        async with self.room.reading(self.caller) as tx:
            kept = await store.some(tx, self.conversation, [pane.id for pane in part])
        operations = []
        for pane in kept:
            now = patches.shown(pane.pane)
            operations += patches.changed(pane.id, self.shown.get(pane.id), now, pane.pane.text)
            self.shown[pane.id] = now
            self.lapses.pop(pane.id, None)
            if pane.writing_s > 0:
                self.lapses[pane.id] = time.monotonic() + pane.writing_s + LATER_S
        return operations
