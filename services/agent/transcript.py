"""What a running turn has said so far: numbered once, followed by any number of streams.

Text that arrives while the last event is still being published is joined into the next one. There are no timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from soma.agent.v1.chat_event_pb2 import ChatEvent, Heartbeat, Text
from soma.agent.v1.chat_event_pb2 import Transcript as Kept

HEARTBEAT_S = 15.0
HEARTBEAT = ChatEvent(heartbeat=Heartbeat())


class Publishes(Protocol):
    """Where the events that follow go, for agents elsewhere. Never raises."""

    async def publish(self, events: Sequence[ChatEvent]) -> None: ...


class Transcript:
    """The events of one turn. Written by the turn alone."""

    def __init__(self, feed: Publishes, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.events: list[ChatEvent] = []
        self.ended = False
        self._inbox: list[ChatEvent] = []
        self._feed, self._heartbeat_s = feed, heartbeat_s
        self._wake = asyncio.Event()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def text(self) -> str:
        return "".join(event.text.delta for event in self.events if event.HasField("text"))

    def say(self, event: ChatEvent) -> None:
        """Take an event without a sequence; it gets one when it is published."""
        if event.HasField("text") and self._inbox and self._inbox[-1].HasField("text"):
            self._inbox[-1].text.delta += event.text.delta
        else:
            self._inbox.append(event)
        self._idle.clear()
        self._arrived.set()

    def say_text(self, delta: str) -> None:
        self.say(ChatEvent(text=Text(delta=delta)))

    async def publish(self) -> None:
        """Number and publish what arrives, until cancelled. Nobody sees an event before it is published: a crash could
        take it back, and give its number to another."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            fresh, self._inbox = self._inbox, []
            for sequence, event in enumerate(fresh, start=len(self.events) + 1):
                event.sequence = sequence
            await self._feed.publish(fresh)
            self.events += fresh
            self._changed()
            if not self._inbox:
                self._idle.set()

    async def settled(self) -> None:
        """Return when all that was said is numbered and published."""
        await self._idle.wait()

    def closing(self, event: ChatEvent) -> Kept:
        """The whole as it is kept, with `event` as the last. Nothing is said by this."""
        event.sequence = len(self.events) + 1
        return Kept(events=[*self.events, event])

    async def close(self, event: ChatEvent) -> None:
        """Say the last event, numbered by `closing`, and let the followers go."""
        self.events.append(event)
        self.leave()
        await self._feed.publish([event])

    def leave(self) -> None:
        """Let the followers go without a last event: the turn is no longer ours."""
        self.ended = True
        self._changed()

    async def follow(self, after: int) -> AsyncIterator[ChatEvent]:
        """Events numbered above `after`, as they come, and a heartbeat whenever there was none for 15 seconds."""
        seen = after
        while True:
            while seen < len(self.events):
                seen += 1
                yield self.events[seen - 1]
            if self.ended:
                return
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._wake.wait()
            except TimeoutError:
                yield HEARTBEAT

    def _changed(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()
