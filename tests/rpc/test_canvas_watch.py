"""Watching a canvas: a document that follows the patches is what can be read, wherever one resumes."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode

from services.canvas.bells import Bells
from services.canvas.canvas import Canvas
from services.canvas.conversations import Conversations
from services.canvas.limits import Limits
from services.canvas.watching import AT_ONCE, Watching
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import open_database
from services.common.errors import Unavailable
from services.common.testing import refused
from services.local.ports import free_port
from soma.agent.v1.conversation_service_pb2 import DeleteConversationRequest
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import CanvasEvent, Pane
from tests.canvases import (
    Document,
    Turn,
    arrange,
    at,
    conversation,
    create,
    delete,
    delete_canvas,
    id_of,
    listed,
    restore,
    revision,
    update,
    watching,
    whole,
)
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")
LARGEST = 256 * 1024


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def forgetful(house: House) -> AsyncIterator[Person]:
    """Someone at a room that remembers two deleted panes a conversation, and lets two watch."""
    house.environment["canvas8"] = house.environment["canvas"] | {
        "SOMA_LISTEN": f"127.0.0.1:{free_port()}",
        "SOMA_GONE_PANES": "2",
        "SOMA_WATCHES": "2",
    }
    await house.start("canvas8")
    yield at(house.person(), "canvas8")
    await house.end("canvas8")


async def caught_up(person: Person, parent: str, document: Document) -> Document:
    """The document after a watch from where it stands to the newest revision."""
    newest = await revision(person.house, parent)
    async with watching(person, parent, document.revision) as events:
        return await document.follow(events, newest)


async def test_a_watch_begins_with_all_there_is_and_goes_on_with_what_changes(house: House, person: Person) -> None:
    parent = await conversation(person)
    first = await create(person, parent, "one", title="first")
    await arrange(person, parent, panes=[first.name])

    async with watching(person, parent) as events:
        document = await Document().follow(events, await revision(house, parent))
        assert document.value == await whole(person, parent)

        await update(person, first.name, first.etag, text="two")
        second = await create(person, parent, "three")
        await arrange(person, parent, panes=[second.name, first.name], active=second.name)
        await document.follow(events, await revision(house, parent))
        assert document.value == await whole(person, parent)

        await delete(person, second.name)
        await document.follow(events, await revision(house, parent))
        assert document.value == await whole(person, parent)
        assert set(document.value["panes"]) == {str(id_of(first.name))}


async def test_the_watch_of_a_canvas_without_panes_begins_with_an_empty_one(person: Person) -> None:
    parent = await conversation(person)

    async with watching(person, parent) as events:
        document = Document()
        document.take(await anext(events))
        assert document.value == {"panes": {}, "layout": (await whole(person, parent))["layout"]}
        assert (document.messages[0].HasField("revision"), document.revision) == (True, 0)

        await create(person, parent, "one")
        await document.follow(events, 1)
        assert document.value == await whole(person, parent)


async def test_a_change_is_seen_before_the_rounds_would_find_it(house: House, person: Person) -> None:
    parent = await conversation(person)
    async with watching(person, parent) as events:
        document = await Document().follow(events, 0)
        async with asyncio.timeout(20):
            for n in range(10):
                await create(person, parent, str(n))
                await document.follow(events, await revision(house, parent))


async def test_of_a_pane_that_changes_only_the_fields_that_did_are_sent(house: House, person: Person) -> None:
    turn = Turn(person, await conversation(person))
    await turn.write("a")
    async with watching(person, turn.parent) as events:
        document = await Document().follow(events, await revision(house, turn.parent))
        await turn.write("ab")
        await document.follow(events, await revision(house, turn.parent))

    paths = {operation.path.rpartition("/")[2] for operation in document.messages[-1].patch.operations}
    assert paths == {"text", "etag", "updateTime"}


async def test_a_write_that_changes_nothing_is_a_revision_too_and_is_told(house: House, person: Person) -> None:
    turn = Turn(person, await conversation(person))
    await turn.write("all of it", finished=True)
    async with watching(person, turn.parent) as events:
        document = await Document().follow(events, await revision(house, turn.parent))
        await turn.write("all of it", etag="", finished=True)
        async with asyncio.timeout(20):
            await document.follow(events, await revision(house, turn.parent))

    assert [len(event.patch.operations) for event in document.messages] == [2, 0]


async def test_a_watch_that_is_resumed_begins_with_what_changed_since(house: House, person: Person) -> None:
    parent = await conversation(person)
    kept, changed, gone = [await create(person, parent, text) for text in ("kept", "changed", "gone")]
    document = await caught_up(person, parent, Document())

    await update(person, changed.name, changed.etag, text="changed indeed")
    await delete(person, gone.name)
    short_lived = await create(person, parent, "short-lived")
    await delete(person, short_lived.name)
    await arrange(person, parent, panes=[kept.name])
    document.messages.clear()
    await caught_up(person, parent, document)

    assert document.value == await whole(person, parent)
    operations = [operation for message in document.messages for operation in message.patch.operations]
    assert all(operation.path for operation in operations), "no snapshot"
    assert not any(str(id_of(kept.name)) in operation.path for operation in operations)


async def test_a_watch_resumed_at_the_newest_revision_opens_at_once_and_has_nothing_to_say(
    house: House, person: Person
) -> None:
    parent = await conversation(person)
    await create(person, parent)
    newest = await revision(house, parent)

    request = wire.WatchCanvasRequest(parent=parent, after_revision=newest)
    call = person.canvas.WatchCanvas(request, metadata=person.metadata)
    async with asyncio.timeout(10):
        await call.initial_metadata()
    await create(person, parent, "next")
    event = await anext(aiter(call))
    call.cancel()

    assert event.revision == newest + 1


async def test_a_revision_that_is_not_yet_is_refused(house: House, person: Person) -> None:
    parent = await conversation(person)
    await create(person, parent)

    for after in (await revision(house, parent) + 1, 2**32 - 1):
        with refused(StatusCode.INVALID_ARGUMENT, "REVISION_UNKNOWN"):
            async with watching(person, parent, after) as events:
                await anext(events)


async def test_a_watch_from_before_what_is_remembered_begins_anew(house: House, forgetful: Person) -> None:
    parent = await conversation(forgetful)
    panes = [await create(forgetful, parent, str(n)) for n in range(5)]
    document = await caught_up(forgetful, parent, Document())
    near = copy.deepcopy(document)
    for pane in panes[:2]:
        await delete(forgetful, pane.name)
    await caught_up(forgetful, parent, near)
    for pane in panes[2:4]:
        await delete(forgetful, pane.name)

    document.messages.clear()
    near.messages.clear()
    for old in (document, near):
        await caught_up(forgetful, parent, old)
        assert old.value == await whole(forgetful, parent)

    def began_anew(one: Document) -> bool:
        return any(not operation.path for message in one.messages for operation in message.patch.operations)

    assert began_anew(document)
    assert not began_anew(near)


async def test_a_large_canvas_comes_in_messages_that_go_over_the_wire(house: House, person: Person) -> None:
    parent = await conversation(person)
    for n in range(6):
        await create(person, parent, chr(ord("a") + n) * LARGEST)

    document = await caught_up(person, parent, Document())
    parts = document.messages

    assert document.value == await whole(person, parent)
    assert max(event.ByteSize() for event in parts) < 640 * 1024
    assert len(parts) == 3
    assert [event.HasField("revision") for event in parts] == [False, False, True]


async def test_much_that_has_changed_comes_in_parts_and_each_is_a_place_to_resume(house: House, person: Person) -> None:
    parent = await conversation(person)
    before = await create(person, parent, "before")
    document = await caught_up(person, parent, Document())
    panes = [await create(person, parent, str(n) * LARGEST) for n in range(5)]
    await delete(person, before.name)
    await delete(person, panes[0].name)

    while document.revision < await revision(house, parent):
        async with watching(person, parent, document.revision) as events:
            document.take(await anext(events))  # and hang up

    assert document.value == await whole(person, parent)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_done_a_document_that_follows_is_the_canvas_and_so_is_one_that_resumes(
    house: House, forgetful: Person, seed: int
) -> None:
    chance, parent = random.Random(seed), await conversation(forgetful)
    resumed = Document()
    async with watching(forgetful, parent) as events:
        following = await Document().follow(events, 0)
        for _ in range(12):
            for _ in range(chance.randint(1, 8)):
                await one_thing(forgetful, parent, chance)
            await following.follow(events, await revision(house, parent))
            await is_the_canvas(forgetful, parent, following, events)
            if chance.random() < 0.6:
                async with watching(forgetful, parent, resumed.revision) as again:
                    await resumed.follow(again, await revision(house, parent))
                    await is_the_canvas(forgetful, parent, resumed, again)


async def is_the_canvas(person: Person, parent: str, document: Document, events: AsyncIterator[CanvasEvent]) -> None:
    """At once, but for a turn that nothing was heard of for ten seconds just now."""
    async with asyncio.timeout(4):
        while document.value != await whole(person, parent):
            document.take(await anext(events))


TURNS: dict[str, Turn] = {}


async def one_thing(person: Person, parent: str, chance: random.Random) -> None:
    """Something that a person or a turn does to a canvas."""
    panes = await listed(person, parent)
    pane = chance.choice(panes) if panes else None
    text = chance.choice("abcdef") * chance.randint(0, 5)
    writing = [p for p in panes if p.state == Pane.STATE_WRITING]

    async def begin() -> None:
        turn = Turn(person, parent)
        TURNS[turn.name] = turn
        await turn.write(text, kind=chance.choice(["code", "html"]), title=text)

    async def go_on() -> None:
        name = chance.choice(writing).name
        await TURNS[name].write(text, finished=chance.random() < 0.5)

    things: list[Callable[[], Awaitable[object]]] = [lambda: create(person, parent, text, title=text), begin]
    if pane:
        things += [
            lambda: update(person, pane.name, pane.etag, text=text, title=text),
            lambda: update(person, pane.name, title=text),
            lambda: delete(person, pane.name),
            lambda: restore(person, f"{pane.name}/versions/{pane.version}"),
            lambda: arrange(person, parent, panes=[p.name for p in panes if chance.random() < 0.5], active=pane.name),
        ]
    if writing:
        things += [go_on] * 3
    await chance.choice(things)()


async def test_a_turn_that_is_heard_of_no_more_is_seen_to_write_no_more(house: House, person: Person) -> None:
    turn = Turn(person, await conversation(person))
    await turn.write("half")
    soon = "UPDATE t_acme.panes SET writing_until = now() + interval '8 seconds' WHERE id = $1"
    await house.rows(soon, id_of(turn.name))
    pane = str(id_of(turn.name))

    async with watching(person, turn.parent) as events, watching(person, turn.parent) as others:
        document = await Document().follow(events, await revision(house, turn.parent))
        left = await Document().follow(others, await revision(house, turn.parent))
        assert document.value["panes"][pane]["state"] == "STATE_WRITING"

        async with asyncio.timeout(20):
            document.take(await anext(events))
        assert document.value == await whole(person, turn.parent)
        assert document.value["panes"][pane]["state"] == "STATE_READY"

    async with watching(person, turn.parent, left.revision) as events:
        left.take(await anext(events))
    assert left.value == document.value, "also who was away then hears of it"


@pytest.mark.parametrize("panes", [0, 1])
async def test_a_watch_ends_when_the_conversation_is_deleted(person: Person, panes: int) -> None:
    parent = await conversation(person)
    for _ in range(panes):
        await create(person, parent)
    async with watching(person, parent) as events:
        await Document().follow(events, 0)

        await delete_canvas(person, parent)
        await person.conversations.DeleteConversation(DeleteConversationRequest(name=parent), metadata=person.metadata)

        async with asyncio.timeout(15):
            rest = [event async for event in events]
    assert rest[-1].done.deleted

    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        async with watching(person, parent) as events:
            await anext(events)


async def test_no_more_may_watch_than_a_room_takes_and_who_hangs_up_makes_place(forgetful: Person) -> None:
    parent = await conversation(forgetful)
    async with watching(forgetful, parent) as first, watching(forgetful, parent) as second:
        await anext(first)
        await anext(second)
        with refused(StatusCode.RESOURCE_EXHAUSTED, "ROOM_BUSY"):
            async with watching(forgetful, parent) as third:
                await anext(third)

    async with asyncio.timeout(15):
        while True:
            try:
                async with watching(forgetful, parent) as events:
                    await anext(events)
                    break
            except grpc.aio.AioRpcError as error:
                assert error.code() == StatusCode.RESOURCE_EXHAUSTED


@asynccontextmanager
async def watcher(house: House, connections: int = 2, watches: int = 1, **fields: float) -> AsyncIterator[Watching]:
    """The room's own, with other times."""
    async with AsyncExitStack() as doors:
        db = await doors.enter_async_context(
            open_database(*house.store("canvas"), SystemClock(), connections=connections)
        )
        agent = Conversations(ConversationServiceStub(house.channel("agent", "canvas")))
        yield Watching(Canvas(db, agent, Bells(watches), Limits()), **fields)


@asynccontextmanager
async def following(room: Watching, person: Person, parent: str) -> AsyncIterator[AsyncIterator[CanvasEvent]]:
    caller = Caller(
        person.tenant, f"{person.name}@{person.tenant}", frozenset(), frozenset(), person.metadata[0][1][7:]
    )
    async with room.watch(caller, wire.WatchCanvasRequest(parent=parent)) as watch, asyncio.timeout(20):
        yield watch.follow()


async def test_a_silent_watch_beats_and_a_long_one_is_done(house: House, person: Person) -> None:
    parent = await conversation(person)
    async with watcher(house, watch_s=8, heartbeat_s=0.8) as room, following(room, person, parent) as events:
        said = [event async for event in events]

    kinds = [event.WhichOneof("event") for event in said]
    assert (kinds[0], kinds[-1], said[-1].done.deleted) == ("patch", "done", False)
    assert 1 <= len(kinds[1:-1]) <= 9
    assert set(kinds[1:-1]) == {"heartbeat"}
    assert not any(event.HasField("revision") for event in said[1:])


async def test_a_watch_that_fails_says_so_in_band(house: House, person: Person) -> None:
    parent = await conversation(person)
    async with watcher(house) as room, following(room, person, parent) as events:
        await anext(events)
        await room.canvas.db.pool.close()
        room.canvas.bells.ring_all()
        rest = [event async for event in events]

    assert [(event.error.reason, event.error.retryable) for event in rest] == [("STORE_UNAVAILABLE", True)]


async def test_however_many_watches_are_rung_calls_find_a_connection(house: House, person: Person) -> None:
    parent = await conversation(person)
    async with AsyncExitStack() as doors:
        room = await doors.enter_async_context(watcher(house, connections=16, watches=20))
        watches = [await doors.enter_async_context(following(room, person, parent)) for _ in range(20)]
        for events in watches:
            await anext(events)
        async with holding_canvases(house) as waiting:
            room.canvas.bells.ring_all()
            reading = [asyncio.ensure_future(anext(events)) for events in watches]
            while await waiting() < AT_ONCE:
                pass
            async with asyncio.timeout(10), room.canvas.db.upkeep(Caller.system("canvas", person.tenant)) as tx:
                assert await tx.fetchval("SELECT 1") == 1
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


@asynccontextmanager
async def holding_canvases(house: House) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Nobody can read them as long as the block; yields how many would."""
    conn = await asyncpg.connect(house.admin_url)
    try:
        async with conn.transaction():
            await conn.execute("LOCK TABLE t_acme.canvases IN ACCESS EXCLUSIVE MODE")
            sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't_acme.canvases'::regclass"
            yield lambda: conn.fetchval(sql)
    finally:
        await conn.close()


async def test_a_room_that_stops_ends_its_watches_in_band_and_lets_no_more_in(house: House, person: Person) -> None:
    parent = await conversation(person)
    async with watcher(house) as room:
        async with following(room, person, parent) as events:
            await anext(events)
            draining = asyncio.create_task(room.drain(5))
            rest = [event async for event in events]
        await draining
        with pytest.raises(Unavailable):
            async with following(room, person, parent):
                pass

    assert [event.WhichOneof("event") for event in rest] == ["done"]
    assert not rest[0].done.deleted
