"""Two things at the same moment, and what no store can hold: nothing breaks, nothing is told that was not done."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode
from prometheus_client import CollectorRegistry

from services.agent import store
from services.agent.canvas import Canvas
from services.agent.names import turn_ids, turn_name
from services.agent.orphans import Orphans
from services.agent.turn import Agent
from services.common.cache import open_cache
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.db import Database, open_database
from services.common.names import conversation_name
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.common.testing import refused
from soma.agent.v1 import conversation_service_pb2 as wire
from soma.agent.v1.chat_event_pb2 import ChatEvent, Done, Transcript
from soma.agent.v1.conversation_pb2 import Conversation
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from soma.common.v1.model_pb2 import Decision, Usage
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import Message
from tests.asking import ask, kinds
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")
ADA = Caller("acme", "ada", frozenset({"member"}), frozenset())
HOLDER = "a test"
DONE = store.Ended(
    state="done",
    answer="",
    transcript=Transcript(events=[ChatEvent(sequence=1), ChatEvent(sequence=2, done=Done())]),
    decision=Decision(),
    usage=Usage(),
    cost_microusd=0,
    finish_reason="stop",
    error=None,
    first_token_ms=0,
)


@asynccontextmanager
async def database(house: House) -> AsyncIterator[Database]:
    async with open_database(*house.store("agent"), SystemClock(), connections=4) as db:
        yield db


@asynccontextmanager
async def orphans(house: House) -> AsyncIterator[Orphans]:
    async with database(house) as db, open_cache(house.environment["agent"]["SOMA_CACHE_URL"]) as cache:
        yield Orphans(db, cache)


async def running_turn(db: Database) -> tuple[uuid.UUID, uuid.UUID]:
    """A turn of Ada's in a conversation of its own, held by this test."""
    ids, now = (new_id(), new_id()), datetime.now(UTC)
    async with db.upkeep(ADA) as tx:
        await store.add_conversation(tx, ids[0], "", now)
        assert await store.add_turn(tx, ids, "?", "standard", ChatEvent(sequence=1), now, HOLDER) is None
    return ids


async def audited(house: House, resource: str) -> list[str]:
    rows = await house.rows("SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", resource)
    return [row["action"] for row in rows]


async def test_a_character_that_the_store_cannot_hold_is_refused_in_words(house: House) -> None:
    person = house.person()
    made = await person.conversations.CreateConversation(
        wire.CreateConversationRequest(), metadata=person.metadata
    )  # fmt: skip
    renamed = wire.UpdateConversationRequest(
        conversation=Conversation(name=made.name, title="a\0b"), update_mask=FieldMask(paths=["title"])
    )

    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
        await ask(person, "a\0b")
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
        await person.conversations.CreateConversation(
            wire.CreateConversationRequest(conversation=Conversation(title="\0")), metadata=person.metadata
        )
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
        await person.conversations.UpdateConversation(renamed, metadata=person.metadata)


async def asked_until_gone(person: Person, conversation: str) -> list[ChatEvent]:
    """Asks again and again until the conversation is not there any more. The last event of each stream."""
    last: list[ChatEvent] = []
    while True:
        try:
            last.append((await ask(person, "script:words=40 script:pace=2", conversation=conversation))[-1])
        except grpc.aio.AioRpcError as error:
            if error.code() == StatusCode.NOT_FOUND:
                return last
            assert error.code() == StatusCode.ABORTED, error.details()


async def test_every_stream_ends_in_band_when_its_conversation_is_deleted_whatever_is_asked_meanwhile(
    house: House,
) -> None:
    person = house.person()

    async def one() -> list[ChatEvent]:
        name = (await ask(person, "hello"))[0].accepted.conversation
        asking = [asyncio.create_task(asked_until_gone(person, name)) for _ in range(3)]
        request = wire.DeleteConversationRequest(name=name)
        await person.conversations.DeleteConversation(request, metadata=person.metadata)
        return [event for events in await asyncio.gather(*asking) for event in events]

    async with asyncio.timeout(60):
        last = [event for events in await asyncio.gather(*(one() for _ in range(12))) for event in events]

    assert set(kinds(last)) <= {"done", "error"}
    told = "SELECT 1 FROM soma.told WHERE body->>'turn' = a.body->>'resource' AND type = a.action"
    answered = "action = 'turn.answered' AND body->>'tenant' = 'acme'"
    assert not await house.rows(f"SELECT * FROM soma.audited a WHERE {answered} AND NOT EXISTS ({told})")


async def test_a_question_at_the_moment_of_an_end_waits_for_it_and_neither_breaks(house: House) -> None:
    async with database(house) as db:
        ids, now = await running_turn(db), datetime.now(UTC)

        async def end() -> bool:
            async with db.upkeep(ADA) as tx:
                return await store.end_turn(tx, ids, HOLDER, DONE, now)

        async with db.upkeep(ADA) as tx:
            await store.locked(tx, ids[0])
            ending = asyncio.create_task(end())
            await until_waiting(house)
            other = await store.add_turn(tx, (ids[0], new_id()), "?", "standard", ChatEvent(sequence=1), now, HOLDER)

        assert other == ids[1]
        assert await ending


async def test_an_orphan_is_ended_beside_a_question_and_neither_breaks(house: House) -> None:
    async with orphans(house) as watch:
        ids, now = await running_turn(watch.db), datetime.now(UTC)
        async with watch.db.upkeep(ADA) as tx:
            await store.locked(tx, ids[0])
            await house.rows("UPDATE soma.leases SET expire_time = now() WHERE resource = $1", turn_name(*ids))
            ending = asyncio.create_task(watch.end("acme", ids))
            await until_waiting(house)
            other = await store.add_turn(tx, (ids[0], new_id()), "?", "standard", ChatEvent(sequence=1), now, HOLDER)
        await ending

    async with asyncio.timeout(20):  # the house's own agent looks for orphans too
        while not await audited(house, turn_name(*ids)):
            await asyncio.sleep(0.05)
    assert other == ids[1]
    assert await audited(house, turn_name(*ids)) == ["turn.interrupted"]


async def until_waiting(house: House) -> None:
    """Until a statement waits for a lock that another holds."""
    async with asyncio.timeout(20):
        while not await house.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)


async def test_a_turn_that_ended_by_itself_is_not_told_of_as_interrupted(house: House) -> None:
    turn = (await ask(house.person(), "hello"))[0].accepted.turn

    async with orphans(house) as watch:
        await watch.end("acme", turn_ids(turn))

    assert "turn.interrupted" not in await audited(house, turn)


async def test_a_lease_that_nobody_can_end_does_not_keep_others_from_their_end(house: House) -> None:
    async with database(house) as db:
        nothing = conversation_name(new_id())
        await house.rows("INSERT INTO soma.leases VALUES ('nobody', $1, '', now() - interval '1 day')", nothing)
        try:
            ids = await running_turn(db)
            async with asyncio.timeout(20):
                while "turn.interrupted" not in await audited(house, turn_name(*ids)):
                    await asyncio.sleep(0.1)
        finally:
            await house.rows("DELETE FROM soma.leases WHERE resource = $1", nothing)


async def test_who_hangs_up_while_a_decision_is_written_leaves_none_open(house: House) -> None:
    stub, person = RouterServiceStub(house.channel("router", "agent")), house.person()
    turn = f"a hang-up {new_id()}"
    request = GenerateRequest(messages=[Message(role="user", text="?")], tier="slm", turn=turn)

    async def hang_up(after_s: float) -> None:
        call = stub.Generate(request, metadata=person.metadata)
        await asyncio.sleep(after_s)
        call.cancel()

    for _ in range(4):
        await asyncio.gather(*(hang_up(n / 500) for n in range(100)))

    open_ones = "SELECT 1 FROM t_acme.decisions WHERE turn = $1 AND settle_time IS NULL"
    async with asyncio.timeout(30):
        while await house.rows(open_ones, turn):
            await asyncio.sleep(0.05)


async def test_an_end_that_was_written_though_nobody_heard_so_stays_ours_and_is_told_once(house: House) -> None:
    async with orphans(house) as doors:
        ids = await running_turn(doors.db)
        sight = Sight(Tracer(0.0), CollectorRegistry())
        canvas = Canvas(CanvasServiceStub(house.channel("canvas", "agent")))
        agent = Agent(HOLDER, doors.db, doors.cache, RouterServiceStub(house.channel("router", "agent")), canvas, sight)
        turn = agent.begin(ids, ADA, "?", "slm", ChatEvent())

        assert await agent._record(turn, DONE)
        assert await agent._record(turn, DONE), "a second try, after a commit whose answer was lost"

        assert turn.ours
        assert await audited(house, turn_name(*ids)) == ["turn.answered"]
