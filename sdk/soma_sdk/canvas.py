"""The panes beside a conversation, as they change."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from betterproto import which_one_of

from soma_api.soma.canvas.v1 import (
    CanvasDone,
    CanvasEvent,
    CanvasServiceStub,
    Layout,
    Pane,
    Patch,
    WatchCanvasRequest,
)
from soma_api.soma.common.v1 import Failure
from soma_sdk.calls import Calls
from soma_sdk.errors import Failed, Invalid, TooLate, Unavailable, lost
from soma_sdk.patch import Json, Misfit, patched
from soma_sdk.patience import Patience

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Document:
    """A canvas at one revision. `json` is {"panes": {"<UUID>": Pane}, "layout": Layout}; do not change it."""

    revision: int
    json: Json

    @property
    def panes(self) -> dict[str, Pane]:
        """The panes by UUID."""
        return {uuid: Pane.from_dict(pane) for uuid, pane in self._part("panes").items()}

    @property
    def layout(self) -> Layout:
        layout: Layout = Layout.from_dict(self._part("layout"))
        return layout

    def _part(self, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self.json.get(name) or {}) if isinstance(self.json, dict) else {}


@dataclass(frozen=True, slots=True)
class Canvas:
    calls: Calls

    async def watch(self, conversation: str) -> AsyncGenerator[Document, None]:
        """The canvas now, and again after each change, until its conversation is deleted.

        Goes on by itself after a cut. Raises Unavailable when nothing answers for a minute.
        """
        known, patience, is_astray = Document(0, {}), Patience(PATIENCE_S), False
        while True:
            try:
                async with aclosing(self._stream(conversation, known)) as documents:
                    async for document in documents:
                        patience.moved()
                        if document is not None:
                            known, is_astray = document, False
                            yield document
            except Unavailable as fault:
                cut = fault
            except TooLate as fault:
                cut = lost(fault.message)
            except (Misfit, Invalid) as fault:
                if is_astray or not went_astray(fault):
                    raise
                known, cut, is_astray = Document(0, {}), lost(str(fault)), True  # begin again, with a snapshot
            else:
                return
            await patience.wait(cut)

    async def _stream(self, conversation: str, known: Document) -> AsyncGenerator[Document | None, None]:
        """One stream: the document after each revision, None for a sign of life. Ends when the canvas is gone."""
        draft = known.json
        request = WatchCanvasRequest(parent=conversation, after_revision=known.revision)
        stream = cast(AsyncGenerator[CanvasEvent, None], self.calls.stub(CanvasServiceStub).watch_canvas(request))
        async with aclosing(stream) as events:
            async for wire in events:
                _, event = which_one_of(wire, "event")
                match event:
                    case Patch():
                        draft = patched(draft, event.operations)
                        yield None if wire.revision is None else Document(wire.revision, draft)
                    case CanvasDone():
                        if event.deleted:
                            return
                        yield None
                        raise lost("the watch was long enough.")
                    case Failure():
                        raise (lost(event.message) if event.retryable else Failed(event))
                    case _:
                        yield None
        raise lost("the stream ended without `done`.")


def went_astray(fault: Misfit | Invalid) -> bool:
    """A change of another canvas than the one we know, or a revision that there is not."""
    return isinstance(fault, Misfit) or fault.reason == "REVISION_UNKNOWN"
