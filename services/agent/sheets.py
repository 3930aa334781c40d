"""The panes of one answer, put into canvas beside the stream. The answer neither waits for that nor suffers from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from services.agent.names import pane_name, turn_name
from services.agent.panes import MOST_TITLE, Opening
from services.common.call import current
from services.common.caller import Caller
from services.common.client import passing, refusals_of
from services.common.clock import new_id
from services.common.errors import Refusal
from services.common.telemetry import log
from soma.agent.v1.chat_event_pb2 import AnswerPane, ChatEvent
from soma.canvas.v1.canvas_pb2 import Pane
from soma.canvas.v1.canvas_service_pb2 import WritePaneRequest
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub

EVERY_S = 1.0
RENEW_S = 4.0
"""An open pane without news is written again after so long: canvas shows it as being written for ten seconds."""
CALL_S = 2.0
LAST_S = 2.0
"""How long the end of a turn waits for its panes."""
OURS = " (answer)"


@dataclass(slots=True)
class Sheet:
    """One pane as the answer fills it."""

    pane: Pane
    """As it is put into canvas, with the etag that canvas gave last."""
    texts: list[str]
    closed: bool = False
    is_new: bool = True
    """Canvas lacks something of it."""
    taken: bool = False
    """A person has changed it: what they made of it stays."""
    written: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        return not self.taken and (self.is_new or time.monotonic() - self.written > RENEW_S)


class Sheets:
    """The panes of one turn that canvas does not have whole yet: filled by the turn, written by a task beside it."""

    def __init__(
        self, stub: CanvasServiceStub, ids: tuple[UUID, UUID], caller: Caller, say: Callable[[ChatEvent], None]
    ) -> None:
        self._stub, self._ids, self._caller, self._say = stub, ids, caller, say
        self._sheets: list[Sheet] = []
        self._open: Sheet | None = None
        self._full = False
        """Canvas takes no more panes: the answer goes on without."""
        self._stirred = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()

    def open(self, opening: Opening) -> AnswerPane | None:
        """Begin a pane. What is added from now on is its text. None when there is no room for one."""
        if self._full:
            return None
        sheet = self._begin(opening.kind, opening.title, opening.language, [opening.text], closed=opening.closed)
        self._open = None if opening.closed else sheet
        return said(sheet, opening.text)

    def add(self, text: str) -> None:
        """Text of the answer, which is the open pane's if there is one."""
        if self._open:
            self._open.texts.append(text)
            self._open.is_new = True

    def close(self) -> AnswerPane | None:
        """End the open pane, if there is one."""
        sheet, self._open = self._open, None
        if sheet is None:
            return None
        sheet.closed = sheet.is_new = True
        self._stirred.set()
        return AnswerPane(name=sheet.pane.name, closed=True)

    async def write(self) -> None:
        """Until cancelled: put what is new into canvas once a second, and at once when a pane opens or closes."""
        while True:
            self._stirred.clear()
            for sheet in list(self._sheets):
                if self._full and not sheet.pane.etag:
                    self._sheets.remove(sheet)
                    continue
                if sheet.is_due:
                    await self._write(sheet)
                if sheet.taken and sheet.closed and not self._open:
                    self._give_own(sheet)
            if not self._sheets:
                self._written.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if self._sheets else None):
                    await self._stirred.wait()

    async def settled(self) -> None:
        """Return when canvas has all panes whole, or after two seconds."""
        try:
            async with asyncio.timeout(LAST_S):
                await self._written.wait()
        except TimeoutError:
            log().warning("panes not written", turn=turn_name(*self._ids), panes=len(self._sheets))

    def _begin(self, kind: str, title: str, language: str, texts: list[str], *, closed: bool) -> Sheet:
        name = pane_name(self._ids[0], new_id())
        sheet = Sheet(Pane(name=name, kind=kind, title=title, language=language), texts, closed)
        self._sheets.append(sheet)
        self._written.clear()
        self._stirred.set()
        return sheet

    async def _write(self, sheet: Sheet) -> None:
        sheet.is_new, sheet.written = False, time.monotonic()
        sheet.pane.text = "".join(sheet.texts)
        request = WritePaneRequest(pane=sheet.pane, turn=turn_name(*self._ids), finished=sheet.closed)
        metadata = passing(self._caller, trace=current.get().traceparent)
        try:
            with refusals_of("canvas"):
                kept = await self._stub.WritePane(request, metadata=metadata, timeout=CALL_S)
        except Refusal as refusal:
            self._refused(sheet, refusal)
            return
        sheet.pane.etag = kept.etag
        if request.finished:
            self._sheets.remove(sheet)

    def _refused(self, sheet: Sheet, refusal: Refusal) -> None:
        """What may go well later is tried again; what never will is left alone, and so is what a person deleted."""
        if refusal.reason == "ETAG_STALE":
            sheet.taken = "newest" in refusal.metadata
            if not sheet.taken:
                self._sheets.remove(sheet)
        elif refusal.retryable:
            sheet.is_new = True
        else:
            self._sheets.remove(sheet)
            self._full = self._full or refusal.reason == "CANVAS_FULL"
            log().warning("pane not written", pane=sheet.pane.name, reason=refusal.reason)

    def _give_own(self, sheet: Sheet) -> None:
        """A pane of its own for the text of one that a person took over, so that both exist."""
        self._sheets.remove(sheet)
        old, text = sheet.pane, "".join(sheet.texts)
        title = old.title[: MOST_TITLE - len(OURS)] + OURS
        self._say(ChatEvent(pane=said(self._begin(old.kind, title, old.language, [text], closed=True), text)))


def said(sheet: Sheet, text: str) -> AnswerPane:
    """How those who watch hear of a new pane."""
    pane = sheet.pane
    return AnswerPane(
        name=pane.name, kind=pane.kind, title=pane.title, language=pane.language, text=text, closed=sheet.closed
    )
