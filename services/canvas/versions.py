"""What people do with the versions of a pane."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.canvas import history, store, told
from services.canvas.canvas import Canvas, begin_version, check_etag, hold, known, now
from services.canvas.names import no_pane, no_version, pane_ids, pane_name, version_ids
from services.common import events, pages
from services.common.caller import Caller
from services.common.once import once
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane, PaneVersion

NEWEST = 2**31


@dataclass(frozen=True, slots=True)
class Versions:
    canvas: Canvas

    async def page(self, caller: Caller, request: wire.ListPaneVersionsRequest) -> wire.ListPaneVersionsResponse:
        """One page, newest first. A page token holds a UUID: here its number is the version's."""
        ids, missing = pane_ids(request.parent), no_pane(request.parent)
        before = min(pages.before(request.page_token, listing := f"{request.parent}/versions").int, NEWEST)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.canvas.reading(caller, ids[0], missing) as tx:
            known(await store.pane(tx, ids), missing)
            found = await history.versions(tx, ids, before, size + 1)
        page = found[:size]
        token = pages.token_after(UUID(int=page[-1].version), listing) if len(found) > size else ""
        return wire.ListPaneVersionsResponse(versions=page, next_page_token=token)

    async def get(self, caller: Caller, name: str) -> PaneVersion:
        (ids, number), missing = version_ids(name), no_version(name)
        async with self.canvas.reading(caller, ids[0], missing) as tx:
            found = await history.version(tx, ids, number)
        if found is None:
            raise missing
        return found

    async def restore(self, caller: Caller, request: wire.RestorePaneVersionRequest) -> Pane:
        (ids, number), missing = version_ids(request.name), no_version(request.name)
        async with (
            self.canvas.changing(caller, ids[0], missing) as tx,
            once(tx, request.request_id, request, Pane) as answer,
        ):
            tx.about(pane_name(ids))
            if answer.known is not None:
                return await now(tx, answer.known.name)
            revision = await hold(tx, ids[0], missing)
            kept = known(await store.pane(tx, ids), missing)
            await check_etag(tx, ids, request.etag, kept.pane)
            old = await history.version(tx, ids, number)
            if old is None:
                raise missing
            new = Pane(title=old.title, language=old.language, text=old.text)
            await begin_version(tx, kept, new, revision, self.canvas.limits)
            made = await now(tx, answer.keep(Pane(name=pane_name(ids))).name)
            await events.append(tx, told.of_pane("updated", made), text=made.text)
            return made
