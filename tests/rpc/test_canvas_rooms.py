"""More than one canvas room, and parts that are away: what was acknowledged is kept, and what changes is seen."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode

from services.canvas.bells import Bells
from services.canvas.others import MOST_NEWS, PATTERN, Others, channel_of
from services.common.background import alongside
from services.common.cache import open_cache
from services.common.clock import SystemClock
from services.common.db import open_database
from services.common.testing import refused
from services.local import valkey
from services.local.ports import free_port
from tests.canvases import (
    Document,
    Turn,
    at,
    conversation,
    create,
    delete,
    get,
    listed,
    revision,
    told,
    update,
    version,
    versions,
    watching,
    whole,
)
from tests.house import House, Person
from tests.stores import running

pytestmark = pytest.mark.asyncio(loop_scope="session")
NOWHERE = "127.0.0.1:9"


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


@asynccontextmanager
async def another(house: House, room: str, **environment: str) -> AsyncIterator[Person]:
    """Someone at a further canvas room, which runs as long as the block."""
    listen = {"SOMA_LISTEN": f"127.0.0.1:{free_port()}"}
    house.environment[room] = house.environment["canvas"] | listen | environment
    await house.start(room)
    try:
        yield at(house.person(), room)
    finally:
        if room in house.rooms:
            await house.end(room)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second(house: House) -> AsyncIterator[Person]:
    async with another(house, "canvas2") as person:
        yield person


async def seen_by(
    watcher: Person, writer: Person, within_s: float, *, room: str = "canvas", once: bool = False
) -> None:
    """Changes of many kinds, or one, each seen within that time. `room` is the writer's."""
    parent = await conversation(writer)
    async with watching(watcher, parent) as events:
        document = await Document().follow(events, 0)

        async def seen() -> None:
            now = await revision(writer.house, parent)
            async with asyncio.timeout(within_s):
                await document.follow(events, now)
            assert document.value == await whole(writer, parent)

        made = await create(writer, parent, "one")
        await seen()
        if once:
            return
        await update(writer, made.name, made.etag, text="two")
        await seen()
        await Turn(writer, parent, room).write("three")
        await seen()
        await delete(writer, made.name)
        await seen()


async def test_what_one_room_writes_is_seen_at_another_at_once(person: Person, second: Person) -> None:
    async with asyncio.timeout(8):
        await seen_by(second, person, within_s=3)


async def test_what_is_written_is_seen_without_valkey_too(house: House, person: Person) -> None:
    async with another(house, "canvas3", SOMA_CACHE_URL=f"redis://{NOWHERE}/0") as deaf:
        await seen_by(deaf, person, within_s=20)
        await seen_by(person, deaf, within_s=20, once=True)
        for _ in range(5):  # once: on a machine that stands still meanwhile nothing is seen at once
            with suppress(TimeoutError):
                await seen_by(deaf, deaf, within_s=1, room="canvas3")
                break
        else:
            pytest.fail("a room's own changes were never seen before it looked anew")


async def test_the_canvas_of_a_conversation_that_cannot_be_asked_about_is_not_shown(
    house: House, person: Person
) -> None:
    made = await create(person, await conversation(person), "one")
    async with another(house, "canvas4", SOMA_AGENT=NOWHERE) as lost:
        with refused(StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE"):
            await get(lost, made.name)
        with refused(StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE"):
            await update(lost, made.name, made.etag, text="two")


async def test_of_many_changes_at_two_rooms_exactly_one_wins(person: Person, second: Person) -> None:
    made = await create(person, await conversation(person), "start")

    async def change(n: int) -> str:
        try:
            return (await update((person, second)[n % 2], made.name, made.etag, text=f"by {n}")).text
        except grpc.aio.AioRpcError as error:
            assert error.code() == StatusCode.ABORTED
            return ""

    texts = [text for text in await asyncio.gather(*(change(n) for n in range(16))) if text]

    assert texts == [(await get(second, made.name)).text]


async def test_a_request_repeated_at_another_room_is_answered_as_the_first_one(person: Person, second: Person) -> None:
    parent, id = await conversation(person), str(uuid.uuid4())

    made = await asyncio.gather(*(create((person, second)[n % 2], parent, "one", request_id=id) for n in range(8)))

    assert len({pane.name for pane in made}) == 1
    assert await listed(person, parent) == made[:1]


async def test_a_room_killed_in_mid_write_loses_nothing_that_it_acknowledged(house: House, person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "text 1")
    acknowledged = made
    async with another(house, "canvas5") as doomed:

        async def write() -> None:
            nonlocal acknowledged
            for n in range(2, 90):
                acknowledged = await update(doomed, made.name, acknowledged.etag, text=f"text {n}")

        async def kill() -> None:
            async with asyncio.timeout(10):
                while acknowledged.version < 10:
                    await asyncio.sleep(0.001)
            await house.end("canvas5", signal.SIGKILL)

        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.gather(write(), kill())

    now = await get(person, made.name)
    assert now.version in (acknowledged.version, acknowledged.version + 1)
    kept = await versions(person, made.name)
    assert [v.version for v in kept] == list(range(now.version, 0, -1))
    for each in kept:
        assert (await version(person, each.name)).text == f"text {each.version}"
    assert await told(house, made.name) == ["pane.created"] + ["pane.updated"] * (now.version - 1)


async def test_a_watch_whose_room_was_killed_goes_on_at_another(house: House, person: Person) -> None:
    parent = await conversation(person)
    first, gone = await create(person, parent, "one"), await create(person, parent, "gone")
    document = Document()
    async with another(house, "canvas6") as doomed, watching(doomed, parent) as events:
        await document.follow(events, await revision(house, parent))
        await house.end("canvas6", signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(events)

    await update(person, first.name, first.etag, text="two")
    await delete(person, gone.name)
    async with watching(person, parent, document.revision) as events:
        await document.follow(events, await revision(house, parent))

    assert document.value == await whole(person, parent)


@asynccontextmanager
async def others(house: House, cache_url: str, me: bytes) -> AsyncIterator[Others]:
    """A room's ears and mouth."""
    async with AsyncExitStack() as doors:
        db = await doors.enter_async_context(open_database(*house.store("canvas"), SystemClock(), connections=2))
        cache = await doors.enter_async_context(open_cache(cache_url))
        room = Others(db, cache, Bells(9), me)
        await doors.enter_async_context(alongside(room.listen(), name="listen"))
        await doors.enter_async_context(alongside(room.speak(), name="speak"))
        yield room


async def until(ears: Others, heard: bool) -> None:
    async with asyncio.timeout(15):
        while ears.heard is not heard:
            await asyncio.sleep(0.02)


async def test_a_room_hears_the_others_again_when_valkey_comes_back_and_rings_for_what_it_missed(
    house: House, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    port, settings, conversation = free_port(), tmp_path / "valkey.conf", uuid.uuid4()
    valkey.prepare(tmp_path / "valkey", settings, port, "a-password")
    ready = valkey.ready(port, "a-password")

    url = valkey.url(port, "a-password")
    async with others(house, url, b"me") as ears, others(house, url, b"another") as mouth:
        with ears.bells.hang("acme", conversation) as bell:
            for _ in range(2):
                async with running(valkey.command(settings), ready, signal.SIGTERM):
                    await until(ears, True)
                    assert await bell.wait(1), "for what was missed"
                    mouth.tell("acme", conversation)
                    assert await bell.wait(5), "for what another room wrote"
                    mouth.tell("globex", conversation)
                    await mouth.cache.publish("{acme}:canvas:rubbish", b"another")
                    ears.tell("acme", conversation)
                    assert not await bell.wait(0.3), "for nothing else"
                await until(ears, False)


async def test_what_cannot_be_told_in_one_go_is_told_in_several(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.canvas.others.PATIENCE_S", 0.03)
    monkeypatch.setattr("services.canvas.others.PAUSE_S", 0.01)
    url = house.environment["canvas"]["SOMA_CACHE_URL"]
    channels = {channel_of("acme", id): id for id in (uuid.uuid4() for _ in range(MOST_NEWS))}
    async with (
        open_cache(url) as cache,
        cache.listening(PATTERN) as news,
        others(house, url, b"me") as mouth,
        asyncio.timeout(60),
    ):
        for id in channels.values():
            mouth.tell("acme", id)
        while channels:
            channels.pop((await anext(news))[0], None)


async def test_a_valkey_that_stands_still_is_soon_no_longer_believed(house: House, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    port, settings = free_port(), tmp_path / "valkey.conf"
    valkey.prepare(tmp_path / "valkey", settings, port, "a-password")
    server = await asyncio.create_subprocess_exec(*valkey.command(settings), start_new_session=True)
    try:
        async with others(house, valkey.url(port, "a-password"), b"me") as ears:
            await until(ears, True)
            server.send_signal(signal.SIGSTOP)
            ears.tell("acme", uuid.uuid4())
            await until(ears, False)
            server.send_signal(signal.SIGCONT)
            await until(ears, True)
    finally:
        server.kill()
        await server.wait()
