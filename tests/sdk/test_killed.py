"""Rooms that die or stand still under the SDK. A house of our own: what dies here is nobody else's."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from soma_api.soma.agent.v1 import ConversationServiceStub, ListConversationsRequest
from soma_sdk import Event, Failed, Soma, Text, TooLate, Unavailable
from soma_sdk.turn import Turn
from tests.house import House, open_house
from tests.sdk.conftest import Connect

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = "script:words=2000 script:pace=20"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def repaired(house: House) -> AsyncIterator[None]:
    yield
    for room in ("agent", "router"):
        if room not in house.rooms:
            await house.start(room)


async def read(soma: Soma, timeout_s: float = 60) -> None:
    await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest(), timeout=timeout_s)


class Listener:
    """Someone who listens, and what they have heard."""

    def __init__(self, turn: Turn) -> None:
        self.turn, self.heard = turn, list[Event]()
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self.turn:
            self.heard.append(event)

    @property
    def text(self) -> str:
        return "".join(event.delta for event in self.heard if isinstance(event, Text))

    async def heard_words(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.text.split()) < count:
                await asyncio.sleep(0.02)


async def test_a_turn_whose_agent_was_killed_is_told_to_its_end_without_a_gap(house: House, soma: Soma) -> None:
    listener = Listener(soma.chat(LONG))
    await listener.heard_words(70)

    await house.end("agent", signal.SIGKILL)
    await house.start("agent")
    async with asyncio.timeout(60):
        with pytest.raises(Failed) as failed:
            await listener.task

    assert failed.value.reason == "INTERRUPTED"
    words = listener.text.split()
    assert words == [f"word{n}" for n in range(1, len(words) + 1)]
    assert listener.turn.sequence == len(listener.heard) + 1, "the error is the last event"


async def test_an_agent_that_is_told_to_stop_ends_its_turns_in_words(house: House, soma: Soma) -> None:
    listener = Listener(soma.chat(LONG))
    await listener.heard_words(5)

    await house.end("agent", signal.SIGTERM)

    with pytest.raises(Failed, match="INTERRUPTED") as failed:
        await listener.task
    assert failed.value.retryable


async def test_reads_wait_for_a_restart(house: House, soma: Soma) -> None:
    await read(soma)
    await house.end("agent", signal.SIGKILL)

    reading = asyncio.create_task(read(soma))
    await house.start("agent")

    await reading


async def test_a_question_waits_for_a_restart(house: House, soma: Soma) -> None:
    await read(soma)
    await house.end("agent", signal.SIGKILL)

    asking = asyncio.create_task(soma.ask("hello"))
    await house.start("agent")

    assert (await asking).text == "You said: hello"


async def test_what_does_not_come_back_is_told_when_patience_is_over(house: House, soma: Soma) -> None:
    turn = soma.chat(LONG)
    listener = Listener(Turn(soma._calls, turn._request, patience_s=1.0))
    await listener.heard_words(3)
    await house.end("agent", signal.SIGKILL)
    began = time.monotonic()

    with pytest.raises(Unavailable, match="ROOM_UNAVAILABLE"):
        await listener.task

    assert time.monotonic() - began < 10


async def test_an_agent_that_stands_still_makes_nobody_hang(house: House, soma: Soma) -> None:
    await read(soma)
    house.rooms["agent"].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        outcomes = await asyncio.gather(*(read(soma, timeout_s=1) for _ in range(5)), return_exceptions=True)
    finally:
        house.rooms["agent"].send_signal(signal.SIGCONT)

    assert {type(outcome) for outcome in outcomes} == {TooLate}
    assert time.monotonic() - began < 10
    await read(soma)


async def test_a_turn_goes_on_after_its_agent_stood_still(house: House, soma: Soma, connect: Connect) -> None:
    listener = Listener(soma.chat("script:words=100 script:pace=10"))
    await listener.heard_words(10)

    house.rooms["agent"].send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    house.rooms["agent"].send_signal(signal.SIGCONT)
    await listener.task

    assert listener.text.split() == [f"word{n}" for n in range(1, 101)]
