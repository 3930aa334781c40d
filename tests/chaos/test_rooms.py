"""Rooms that die in mid-turn, and rooms that are told to stop. Each case ends with a clear event and keeps the text."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
import pytest_asyncio

from services.agent.feed import key_of
from services.agent.names import turn_ids
from services.common.cache import open_cache
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.agent.v1.chat_service_pb2 import CancelTurnRequest
from soma.agent.v1.conversation_pb2 import Turn
from tests.asking import ask, begin, ended, kinds, text_of, watch, watching
from tests.house import House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = "script:words=2000 script:pace=20"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """A house of our own: what dies here is nobody else's."""
    async with open_house() as house:
        yield house


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def repaired(house: House) -> AsyncIterator[None]:
    """Every test finds and leaves one agent and one router."""
    yield
    for room in list(house.rooms):
        if house.rooms[room].returncode is not None:
            await house.end(room)
    await asyncio.gather(*(house.start(room) for room in ("agent", "router") if room not in house.rooms))
    if "agent2" in house.rooms:
        await house.end("agent2")


async def resumed(house: House, turn: str, after: int) -> list[ChatEvent]:
    """The rest of a turn, for a client that calls :watch until it gets through to the end."""
    person, events = house.person(), list[ChatEvent]()
    async with asyncio.timeout(30):
        while not (events and kinds(events)[-1] in ("done", "error")):
            try:
                seen = events[-1].sequence if events else after
                events += [e for e in await watch(person, turn, seen) if e.HasField("sequence")]
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error.details()
                await asyncio.sleep(0.1)
    return events


async def until_kept(house: House, turn: str, seen: list[ChatEvent]) -> None:
    """Until Valkey has what was seen. When it takes its time, agents show events without it."""
    async with open_cache(house.environment["agent"]["SOMA_CACHE_URL"]) as cache, asyncio.timeout(20):
        while not await cache.after(key_of("acme", turn_ids(turn)[1]), seen[-1].sequence - 1):
            await asyncio.sleep(0.05)


async def test_an_agent_killed_in_mid_turn_leaves_a_turn_that_ends_with_interrupted(house: House) -> None:
    turn, conversation, seen = await begin(house.person(), LONG, words=20)
    await asyncio.sleep(1.2)  # past one checkpoint, so that Postgres and Valkey both hold a part
    await until_kept(house, turn, seen)

    await house.end("agent", signal.SIGKILL)
    await house.start("agent")
    back = time.monotonic()
    rest = await resumed(house, turn, seen[-1].sequence)

    assert time.monotonic() - back < 20
    assert kinds(rest)[-1] == "error"
    assert rest[-1].error.reason == "INTERRUPTED"
    assert [e.sequence for e in seen + rest] == list(range(1, len(seen) + len(rest) + 1)), "no gap, no second telling"
    kept = await ended(house.person(), turn)
    assert (kept.state, kept.answer) == (Turn.STATE_FAILED, text_of(seen + rest))
    assert kinds(await ask(house.person(), "again", conversation=conversation))[-1] == "done"


async def test_another_agent_ends_the_turn_of_a_dead_one(house: House) -> None:
    await house.start("agent2")
    turn, _, seen = await begin(house.person(), LONG, words=5)
    await until_kept(house, turn, seen)

    await house.end("agent", signal.SIGKILL)
    watcher = house.person(at="agent2")
    async with asyncio.timeout(20):
        events = await watch(watcher, turn)

    assert events[-1].error.reason == "INTERRUPTED"
    assert events[: len(seen)] == seen
    await house.end("agent2")


async def test_a_turn_ends_with_its_agent_and_no_other_does_when_the_clock_of_the_database_goes_back(
    house: House,
) -> None:
    """Leases last for two hours then."""
    await house.start("agent2")
    dead, _, _ = await begin(house.person(), LONG, words=5)
    alive, _, _ = await begin(house.person(at="agent2"), "script:words=200 script:pace=20")
    await house.end("agent", signal.SIGKILL)
    await house.start("agent")

    async with asyncio.timeout(60):
        kept = list[ChatEvent]()
        async for event in watching(house.person(at="agent2"), alive):
            if len(kept) % 10 == 0:
                await house.rows("UPDATE soma.leases SET expire_time = now() + interval '2 hours'")
            kept.append(event)
        lost = await resumed(house, dead, 0)

    assert kinds(kept)[-1] == "done"
    assert lost[-1].error.reason == "INTERRUPTED"
    await house.end("agent2")


async def test_agents_show_each_others_turns_alike(house: House) -> None:
    await house.start("agent2")
    turn, _, _ = await begin(house.person(), "script:words=60 script:pace=20")

    here, there = await asyncio.gather(watch(house.person(), turn), watch(house.person(at="agent2"), turn))

    assert here == there
    assert kinds(there)[-1] == "done"


async def test_a_turn_can_be_cancelled_through_another_agent(house: House) -> None:
    await house.start("agent2")
    turn, _, _ = await begin(house.person(), LONG)
    elsewhere = house.person(at="agent2")

    cancelled = await elsewhere.chat.CancelTurn(CancelTurnRequest(name=turn), metadata=elsewhere.metadata)

    assert cancelled.state == Turn.STATE_CANCELLED
    assert cancelled.answer


async def test_an_agent_that_is_told_to_stop_ends_its_streams_in_band(house: House) -> None:
    streaming = asyncio.create_task(ask(house.person(), LONG))
    await begin(house.person(), "one more")

    await house.end("agent", signal.SIGTERM)
    events = await streaming

    assert events[-1].error.reason == "INTERRUPTED"
    assert events[-1].error.retryable
    assert text_of(events)


async def test_a_question_that_is_being_admitted_when_its_agent_is_told_to_stop_has_its_time_too(house: House) -> None:
    conn = await asyncpg.connect(house.admin_url)
    async with conn.transaction():
        await conn.execute("LOCK TABLE t_acme.turns IN EXCLUSIVE MODE")
        asking = asyncio.create_task(ask(house.person(), "script:words=20 script:pace=20"))
        async with asyncio.timeout(20):
            while not await conn.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
            house.rooms["agent"].send_signal(signal.SIGTERM)
            while await house.is_serving("agent"):
                await asyncio.sleep(0.01)
    await conn.close()
    events = await asking
    await house.end("agent")

    assert kinds(events)[-1] == "done"


async def test_a_router_killed_in_mid_answer_ends_the_turn_with_its_text(house: House) -> None:
    turn, conversation, _ = await begin(house.person(), LONG, words=5)

    await house.end("router", signal.SIGKILL)
    kept = await ended(house.person(), turn)

    assert (kept.state, kept.error.reason) == (Turn.STATE_FAILED, "ROOM_UNAVAILABLE")
    assert kept.answer.startswith("word1 word2")
    await house.start("router")
    async with asyncio.timeout(20):
        while kinds(await ask(house.person(), "again", conversation=conversation))[-1] != "done":
            await asyncio.sleep(0.2)
