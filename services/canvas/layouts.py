"""What people do with the layout of a conversation."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from uuid import UUID

from services.canvas import arrangement, store
from services.canvas.canvas import Canvas, hold
from services.canvas.etags import check_mask
from services.canvas.names import layout_of, pane_name, pane_of
from services.common.caller import Caller
from services.common.db import Transaction
from services.common.errors import Conflict
from services.common.names import no_conversation
from services.common.once import once
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Layout

CHANGEABLE = ("panes", "active", "beside")


@dataclass(frozen=True, slots=True)
class Layouts:
    canvas: Canvas

    async def get(self, caller: Caller, name: str) -> Layout:
        conversation = layout_of(name)
        async with self.canvas.reading(caller, conversation, no_conversation(name)) as tx:
            return await arrangement.layout(tx, conversation)

    async def update(self, caller: Caller, request: wire.UpdateLayoutRequest) -> Layout:
        paths, asked = check_mask(request.update_mask.paths, CHANGEABLE), request.layout
        conversation, missing = layout_of(asked.name), no_conversation(asked.name)
        async with (
            self.canvas.changing(caller, conversation, missing) as tx,
            once(tx, request.request_id, request, Layout) as answer,
        ):
            tx.about(asked.name)
            if answer.known is not None:
                return answer.known
            revision = await hold(tx, conversation, missing)
            now = await arrangement.layout(tx, conversation)
            check_etag(asked.etag, now.etag)
            new = masked(asked, now, paths)
            await arrangement.put(tx, conversation, await of_panes(tx, conversation, new), revision)
            return answer.keep(await arrangement.layout(tx, conversation))


def masked(asked: Layout, now: Layout, paths: Set[str]) -> Layout:
    """The layout as it is now, changed in what the mask names."""
    return Layout(
        panes=asked.panes if "panes" in paths else now.panes,
        active=asked.active if "active" in paths else now.active,
        beside=asked.beside if "beside" in paths else now.beside,
    )


async def of_panes(tx: Transaction, conversation: UUID, asked: Layout) -> Layout:
    """The layout without what is no pane of the conversation, and each open pane once."""
    names = (*asked.panes, asked.active, asked.beside)
    ids = [pane for name in names if (pane := pane_of(conversation, name))]
    there = {pane_name((conversation, pane)) for pane in await store.which(tx, conversation, ids)}
    return Layout(
        panes=[name for name in dict.fromkeys(asked.panes) if name in there],
        active=asked.active if asked.active in there else "",
        beside=asked.beside if asked.beside in there else "",
    )


def check_etag(sent: str, newest: str) -> None:
    """Raise Conflict ETAG_STALE when an etag was sent that is not the newest."""
    if sent and sent != newest:
        message = "Another tab arranged the panes meanwhile. Read the layout again, then change it."
        raise Conflict("ETAG_STALE", message, etag=newest)
