"""Short ways to chat in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from soma.agent.v1 import chat_service_pb2 as wire
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.agent.v1.conversation_pb2 import Turn
from tests.house import Person

DEADLINE_S = 30.0


def stream(person: Person, text: str, **fields: str) -> AsyncIterator[ChatEvent]:
    request = wire.ChatRequest(text=text, **fields)
    return aiter(person.chat.Chat(request, metadata=person.metadata, timeout=DEADLINE_S))


def watching(person: Person, turn: str, after: int = 0) -> AsyncIterator[ChatEvent]:
    request = wire.WatchTurnRequest(name=turn, after_sequence=after)
    return aiter(person.chat.WatchTurn(request, metadata=person.metadata, timeout=DEADLINE_S))


async def ask(person: Person, text: str, **fields: str) -> list[ChatEvent]:
    """The whole stream of a question."""
    return [event async for event in stream(person, text, **fields)]


async def watch(person: Person, turn: str, after: int = 0) -> list[ChatEvent]:
    """The turn's events after one. Heartbeats are the stream's, not the turn's."""
    return [event async for event in watching(person, turn, after) if not event.HasField("heartbeat")]


async def begin(person: Person, text: str, words: int = 1, **fields: str) -> tuple[str, str, list[ChatEvent]]:
    """Ask, read until there are some pieces of text, and hang up. Names of turn and conversation, and the events."""
    events: list[ChatEvent] = []
    call = person.chat.Chat(wire.ChatRequest(text=text, **fields), metadata=person.metadata, timeout=DEADLINE_S)
    with suppress(asyncio.CancelledError):
        async for event in call:
            events.append(event)
            if sum(e.HasField("text") for e in events) >= words:
                break
    call.cancel()
    return events[0].accepted.turn, events[0].accepted.conversation, events


async def ended(person: Person, turn: str) -> Turn:
    """The turn, when it has ended."""
    await watch(person, turn)
    return await person.chat.GetTurn(wire.GetTurnRequest(name=turn), metadata=person.metadata, timeout=DEADLINE_S)


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text.delta for event in events)


def kinds(events: list[ChatEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]
