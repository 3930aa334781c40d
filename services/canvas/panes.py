"""What people do with panes. One method a deed, one transaction a method."""

from __future__ import annotations

from dataclasses import dataclass

from services.canvas import store, told
from services.canvas.canvas import Canvas, begin_version, check_etag, hold, known, now
from services.canvas.etags import check_mask, check_sent
from services.canvas.limits import check_pane
from services.canvas.names import no_pane, pane_ids, pane_name
from services.common import events, pages
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.db import Transaction
from services.common.names import conversation_id, no_conversation
from services.common.once import once
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane

CHANGEABLE = ("title", "language", "text")


@dataclass(frozen=True, slots=True)
class Panes:
    canvas: Canvas

    async def create(self, caller: Caller, request: wire.CreatePaneRequest) -> Pane:
        conversation, missing = conversation_id(request.parent), no_conversation(request.parent)
        async with (
            self.canvas.changing(caller, conversation, missing) as tx,
            once(tx, request.request_id, request, Pane) as answer,
        ):
            if answer.known is not None:
                return await now(tx, answer.known.name)
            ids = conversation, new_id()
            tx.about(pane_name(ids))
            revision = await hold(tx, conversation, missing)
            check_pane(await store.held(tx, conversation), len(request.pane.text.encode()), self.canvas.limits)
            await store.add(tx, ids, request.pane, revision, tx.clock.now())
            made = await now(tx, answer.keep(Pane(name=pane_name(ids))).name)
            await events.append(tx, told.of_pane("created", made), text=made.text)
            return made

    async def get(self, caller: Caller, name: str) -> Pane:
        ids, missing = pane_ids(name), no_pane(name)
        async with self.canvas.reading(caller, ids[0], missing) as tx:
            return await now(tx, name)

    async def page(self, caller: Caller, request: wire.ListPanesRequest) -> wire.ListPanesResponse:
        """One page, newest first, ended early where it would be too large."""
        conversation = conversation_id(request.parent)
        before = pages.before(request.page_token, listing := f"{request.parent}/panes")
        async with self.canvas.reading(caller, conversation, no_conversation(request.parent)) as tx:
            page, last = await store.panes(tx, conversation, before, request.page_size or pages.DEFAULT_SIZE)
        token = pages.token_after(last, listing) if last else ""
        return wire.ListPanesResponse(panes=page, next_page_token=token)

    async def update(self, caller: Caller, request: wire.UpdatePaneRequest) -> Pane:
        paths, asked = check_mask(request.update_mask.paths, CHANGEABLE), request.pane
        ids, missing = pane_ids(asked.name), no_pane(asked.name)
        if "text" in paths:
            check_sent(asked.etag)
        async with (
            self.canvas.changing(caller, ids[0], missing) as tx,
            once(tx, request.request_id, request, Pane) as answer,
        ):
            tx.about(asked.name)
            if answer.known is not None:
                return await now(tx, asked.name)
            revision = await hold(tx, ids[0], missing)
            kept = known(await store.pane(tx, ids), missing)
            await check_etag(tx, ids, asked.etag, kept.pane)
            await self._put(tx, kept, masked(asked, kept.pane, paths), revision)
            made = await now(tx, answer.keep(Pane(name=asked.name)).name)
            await events.append(tx, told.of_pane("updated", made), text=made.text)
            return made

    async def delete(self, caller: Caller, request: wire.DeletePaneRequest) -> wire.DeletePaneResponse:
        ids, missing = pane_ids(request.name), no_pane(request.name)
        async with (
            self.canvas.changing(caller, ids[0], missing) as tx,
            once(tx, request.request_id, request, wire.DeletePaneResponse) as answer,
        ):
            tx.about(request.name)
            if answer.known is not None:
                return answer.known
            revision = await hold(tx, ids[0], missing)
            kept = known(await store.pane(tx, ids), missing)
            await check_etag(tx, ids, request.etag, kept.pane)
            await store.delete(tx, ids, revision, self.canvas.limits.gone)
            await events.append(tx, told.of_pane("deleted", kept.pane))
            return answer.keep(wire.DeletePaneResponse())

    async def _put(self, tx: Transaction, kept: store.Kept, new: Pane, revision: int) -> None:
        """Another text is another version; another title or language is not, and lets a turn write on."""
        if new.text == kept.pane.text:
            await store.name(tx, pane_ids(kept.pane.name), new, revision, tx.clock.now())
        else:
            await begin_version(tx, kept, new, revision, self.canvas.limits)


def masked(asked: Pane, was: Pane, paths: frozenset[str]) -> Pane:
    """The pane as it was, changed in what the mask names."""
    new = Pane(title=was.title, language=was.language, text=was.text)
    for path in paths:
        setattr(new, path, getattr(asked, path))
    return new
