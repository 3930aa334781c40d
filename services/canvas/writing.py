"""What the agent does: it writes panes while it answers, and deletes canvases. It has asked itself whose they are."""

from __future__ import annotations

from dataclasses import dataclass

from services.canvas import history, store, told
from services.canvas.canvas import Canvas, hold, known, stale
from services.canvas.etags import version_of
from services.canvas.limits import check_pane, check_text
from services.canvas.names import PaneIds, pane_ids
from services.common import events
from services.common.caller import Caller
from services.common.db import Transaction
from services.common.errors import Conflict
from services.common.names import conversation_id, conversation_name, no_conversation
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane


@dataclass(frozen=True, slots=True)
class Writing:
    canvas: Canvas

    async def write(self, caller: Caller, request: wire.WritePaneRequest) -> Pane:
        """Audited and told to the log when a pane or a version begins and when it is finished, not in between."""
        ids = pane_ids(request.pane.name)
        missing = no_conversation(conversation_name(ids[0]))
        async with self.canvas.trusting(caller, ids[0]) as tx:
            tx.about(request.pane.name)
            revision = await hold(tx, ids[0], missing)
            kept = await store.pane(tx, ids)
            kind = await self._put(tx, ids, kept, request, revision)
            made = known(await store.pane(tx, ids), missing).pane
            if kind:
                await events.append(tx, told.of_pane(kind, made, request.turn), text=made.text)
            else:
                tx.about_nothing()
            return made

    async def _put(
        self, tx: Transaction, ids: PaneIds, kept: store.Kept | None, request: wire.WritePaneRequest, revision: int
    ) -> str:
        """Write the pane, and return what is to be told of it: created, updated, or nothing."""
        asked, turn, now = request.pane, request.turn, tx.clock.now()
        writing, held = not request.finished, await store.held(tx, ids[0])
        size_bytes = len(asked.text.encode())
        if kept is None:
            await check_never_there(tx, ids, asked.etag)
            check_pane(held, size_bytes, self.canvas.limits)
            await store.add(tx, ids, asked, revision, now, turn=turn, writing=writing)
            return "created"
        if is_repeat(kept, request):
            return ""
        check_text(held, kept.size_bytes, size_bytes, self.canvas.limits)
        new = named(asked, kept)
        if goes_on(kept, asked.etag, turn):
            await store.amend(tx, ids, new, revision, now, writing=writing)
        elif asked.etag == kept.pane.etag:
            await store.renew(tx, ids, new, revision, now, named=kept.named, turn=turn, writing=writing)
        else:
            raise await stale(tx, ids, asked.etag, kept.pane)
        await history.prune(tx, ids, size_bytes, self.canvas.limits)
        return "" if writing and kept.writer == turn else "updated"

    async def delete(self, caller: Caller, request: wire.DeleteCanvasRequest) -> wire.DeleteCanvasResponse:
        """All of a conversation that is being deleted. Who watches is told, and who writes after this is refused."""
        conversation = conversation_id(request.parent)
        async with self.canvas.trusting(caller, conversation) as tx:
            tx.about(request.parent)
            held = await store.held(tx, conversation)
            if await store.hold(tx, conversation) is not None:
                await store.drop(tx, conversation)
            if not held.panes:
                tx.about_nothing()
        return wire.DeleteCanvasResponse()


def goes_on(kept: store.Kept, etag: str, turn: str) -> bool:
    """Whether the turn writes on in the version that it began. One whose answer was lost, so that it does not know the
    newest etag, does; and so does one that goes on after a person has changed the title."""
    if kept.writer != turn:
        return False
    return etag == kept.pane.etag or (kept.open and (not etag or version_of(etag) == kept.pane.version))


def is_repeat(kept: store.Kept, request: wire.WritePaneRequest) -> bool:
    """Whether the turn has finished the pane with just this before, and did not hear so."""
    return request.finished and not kept.open and kept.writer == request.turn and kept.pane.text == request.pane.text


def named(asked: Pane, kept: store.Kept) -> Pane:
    """What the turn says, under the name that a person chose, if one did."""
    by = kept.pane if kept.named else asked
    return Pane(title=by.title, language=by.language, text=asked.text)


async def check_never_there(tx: Transaction, ids: PaneIds, etag: str) -> None:
    """Raise Conflict ETAG_STALE when the pane was there before, and a person has deleted it."""
    if etag or await store.is_gone(tx, ids):
        raise Conflict("ETAG_STALE", "A person has deleted the pane meanwhile.")
