"""A turn as its events, in order and without gaps, however often the stream is cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias, cast

from betterproto import which_one_of

from soma_api.soma.agent.v1 import (
    Accepted,
    AnswerPane,
    CancelTurnRequest,
    ChatEvent,
    ChatRequest,
    ChatServiceStub,
    Done,
    Text,
    WatchTurnRequest,
)
from soma_api.soma.agent.v1 import Turn as TurnResource
from soma_api.soma.common.v1 import Decision, Failure
from soma_sdk.calls import Calls
from soma_sdk.errors import Failed, TooLate, Unavailable, lost
from soma_sdk.patience import Patience

Event: TypeAlias = Accepted | Decision | Text | AnswerPane | Done

PATIENCE_S = 60.0
"""How long a cut turn is asked for again. A turn whose room died is ended by another within ten seconds."""


class Turn(AsyncIterator[Event]):
    """The events of a turn, to `Done`. Raises Failed when the turn ends with an error.

    With `name` and `sequence` another program can go on where this one stopped: `soma.watch(name, after=sequence)`.
    """

    def __init__(
        self, calls: Calls, request: ChatRequest | None, name: str = "", after: int = 0, patience_s: float = PATIENCE_S
    ) -> None:
        self.name, self.sequence = name, after
        """The turn's resource name, empty until it is accepted; and the number of the last event that was given."""
        self.conversation = name.partition("/turns/")[0] if name else request.conversation if request else ""
        self._stub, self._request, self._patience_s = calls.stub(ChatServiceStub), request, patience_s
        self._begun = False
        self._events = self._resumed()

    def __aiter__(self) -> Turn:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Stop listening. The turn itself runs on."""
        await self._events.aclose()

    async def cancel(self) -> TurnResource:
        """Stop the turn, keep its text. Raises NotFound before it is accepted."""
        return await self._stub.cancel_turn(CancelTurnRequest(name=self.name))

    async def _resumed(self) -> AsyncGenerator[Event, None]:
        patience = Patience(self._patience_s)
        while True:
            try:
                async with aclosing(self._stream()) as events:
                    heard = False
                    async for wire in events:
                        heard = True
                        event = self._take(wire)
                        if event is None:
                            continue
                        patience.moved()
                        yield event
                        if isinstance(event, Done):
                            return
                if not heard and not self._begun and self.sequence:
                    return  # nothing follows what the caller has seen
                cut = lost("the stream ended in mid-answer.")
            except Unavailable as fault:
                cut = fault
            except TooLate as fault:
                cut = lost(fault.message)
            await patience.wait(cut)

    def _stream(self) -> AsyncGenerator[ChatEvent, None]:
        """Ask, with the same request_id each time, until the turn is accepted; from then on watch."""
        if self._request is not None and not self.name:
            return cast(AsyncGenerator[ChatEvent, None], self._stub.chat(self._request))
        watch = WatchTurnRequest(name=self.name, after_sequence=self.sequence)
        return cast(AsyncGenerator[ChatEvent, None], self._stub.watch_turn(watch))

    def _take(self, wire: ChatEvent) -> Event | None:
        """What is new for the caller. Raises Unavailable at a gap, Failed at the turn's error."""
        if wire.sequence is None or wire.sequence <= self.sequence:
            return None
        if wire.sequence != self.sequence + 1:
            raise lost(f"event {self.sequence + 1} is missing.")
        self.sequence, self._begun = wire.sequence, True
        _, event = which_one_of(wire, "event")
        if isinstance(event, Accepted):
            self.name, self.conversation = event.turn, event.conversation
        if isinstance(event, Failure):
            raise Failed(event)
        return cast(Event | None, event)
