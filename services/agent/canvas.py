"""The way to canvas: sheets for the panes of an answer, and the end of a conversation's panes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from services.agent.sheets import Sheets
from services.common.call import current
from services.common.caller import Caller
from services.common.client import passing, refusals_of
from services.common.errors import NotFound, Refusal, Unavailable
from services.common.telemetry import log
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.canvas.v1.canvas_service_pb2 import DeleteCanvasRequest
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub

EMPTY_S, SWEEP_S = 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Canvas:
    """The way to canvas."""

    stub: CanvasServiceStub

    def sheets(self, ids: tuple[UUID, UUID], caller: Caller, say: Callable[[ChatEvent], None]) -> Sheets:
        """Those of a turn that begins."""
        return Sheets(self.stub, ids, caller, say)

    async def empty(self, caller: Caller, conversation: str) -> None:
        """Delete all panes of the conversation. Raises Unavailable ROOM_UNAVAILABLE unless they are gone."""
        try:
            await self._delete(caller, conversation, EMPTY_S)
        except Refusal as refusal:
            message = "The panes cannot be deleted now, so nothing was deleted. Try again in a moment."
            raise Unavailable("ROOM_UNAVAILABLE", message, retry_after_s=2, room="canvas") from refusal

    async def sweep(self, caller: Caller, conversation: str) -> None:
        """Delete what was written after `empty`, if there is anything. The conversation is gone in any case."""
        try:
            await self._delete(caller, conversation, SWEEP_S)
        except Refusal as refusal:
            log().warning("canvas not swept", conversation=conversation, reason=refusal.reason)

    async def _delete(self, caller: Caller, conversation: str, timeout_s: float) -> None:
        metadata = passing(caller, trace=current.get().traceparent)
        with suppress(NotFound), refusals_of("canvas"):
            await self.stub.DeleteCanvas(DeleteCanvasRequest(parent=conversation), metadata=metadata, timeout=timeout_s)
