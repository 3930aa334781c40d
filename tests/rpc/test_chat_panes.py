"""Panes of an answer: told in its stream, put into canvas beside it. Over real sockets, with the scripted model."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import groupby

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused, sent
from soma.agent.v1 import chat_service_pb2 as chat_wire
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane
from tests.asking import ask, begin, ended, kinds, stream, text_of, watch
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = "Here:\n\n```python x.py\nprint(1)\nprint(2)\n```\nDone."
LINES = "".join(f"line {n}\n" for n in range(60))
LONG = f"```text notes.txt\n{LINES}```\nDone."
ALL = "".join(
    (
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n",
        "![a cat](https://x.test/cat.png)\n",
        "```html\n<p>hello</p>\n```\n",
    )
)


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


@asynccontextmanager
async def without_canvas(house: House) -> AsyncIterator[None]:
    """Canvas is killed, and there again afterwards."""
    await house.end("canvas", signal.SIGKILL)
    try:
        yield
    finally:
        if "canvas" not in house.rooms:
            await house.start("canvas")


async def get(person: Person, name: str) -> Pane:
    return await person.canvas.GetPane(wire.GetPaneRequest(name=name), metadata=person.metadata)


async def until(person: Person, name: str, fits: Callable[[Pane], bool]) -> Pane:
    """The pane, as soon as it is there and fits."""
    async with asyncio.timeout(10):
        while True:
            try:
                if fits(pane := await get(person, name)):
                    return pane
            except grpc.aio.AioRpcError as error:
                assert error.code() == StatusCode.NOT_FOUND, error.details()
            await asyncio.sleep(0.02)


async def opened(events: AsyncIterator[ChatEvent]) -> list[ChatEvent]:
    """What a stream says until a pane opens."""
    seen = []
    async for event in events:
        seen.append(event)
        if event.HasField("pane"):
            break
    return seen


async def rest_of(events: AsyncIterator[ChatEvent]) -> list[ChatEvent]:
    return [event async for event in events]


def order(events: list[ChatEvent]) -> list[str]:
    """Kinds of events, those of text that follow each other as one."""
    return [kind for kind, _ in groupby(kinds(events))]


def panes_of(events: list[ChatEvent]) -> dict[str, str]:
    """Texts of the panes that a stream tells of, by their names."""
    texts, open_one = {}, ""
    for event in events:
        if event.HasField("pane") and event.pane.kind:
            texts[event.pane.name] = event.pane.text
        if event.HasField("pane"):
            open_one = "" if event.pane.closed else event.pane.name
        elif open_one:
            texts[open_one] += event.text.delta
    return texts


async def test_a_code_block_is_a_pane_between_two_events(person: Person) -> None:
    events = await ask(person, f"script:say\n{CODE}")

    assert order(events) == ["accepted", "decision", "text", "pane", "text", "pane", "text", "done"]
    opening, closing = (event.pane for event in events if event.HasField("pane"))
    assert (opening.kind, opening.title, opening.language, opening.text) == ("code", "x.py", "python", "")
    assert (closing.name, closing.closed, opening.closed) == (opening.name, True, False)
    assert panes_of(events) == {opening.name: "print(1)\nprint(2)\n"}
    assert text_of(events) == CODE
    assert (await ended(person, events[0].accepted.turn)).answer == CODE


async def asked_in_time(house: House, person: Person, question: str) -> list[ChatEvent]:
    """An answer of which the agent does not say that its panes took too long, as those of a machine that stands still
    do."""
    for _ in range(5):
        events = await ask(person, question)
        turn, lines = events[0].accepted.turn, (house.folder / "agent.log").read_text().splitlines()
        if not any("panes not written" in line and turn in line for line in lines):
            return events
    pytest.fail("canvas never had the panes in time")


async def test_canvas_has_every_pane_whole_before_done_is_said(house: House, person: Person) -> None:
    events = await asked_in_time(house, person, f"script:say\n{CODE}\n{ALL}")
    turn, told = events[0].accepted.turn, panes_of(events)

    kept = [await get(person, name) for name in told]

    assert [(pane.kind, pane.title, pane.language) for pane in kept] == [
        ("code", "x.py", "python"), ("table", "Table", "markdown"), ("image", "a cat", ""), ("html", "HTML", "html"),
    ]  # fmt: skip
    assert [pane.text for pane in kept] == list(told.values())
    assert kept[1].text == "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert kept[2].text == "https://x.test/cat.png"
    assert {(pane.state, pane.turn, pane.author, pane.version) for pane in kept} == {
        (Pane.STATE_READY, turn, "agent", 1)
    }  # fmt: skip


async def test_a_pane_can_be_read_while_it_grows(person: Person) -> None:
    events = stream(person, f"script:pace=75 script:say\n{LONG}")
    name = (await opened(events))[-1].pane.name

    early = await until(person, name, lambda pane: bool(pane.text))
    later = await until(person, name, lambda pane: len(pane.text) > len(early.text))
    await rest_of(events)

    assert {early.state, later.state} == {Pane.STATE_WRITING}
    assert LINES.startswith(later.text)
    assert later.text.startswith(early.text)
    whole = await get(person, name)
    assert (whole.text, whole.state, whole.version) == (LINES, Pane.STATE_READY, 1)


async def test_what_a_person_writes_into_a_growing_pane_stays_and_the_answer_gets_a_pane_of_its_own(
    person: Person,
) -> None:
    events = stream(person, f"script:pace=75 script:say\n{LONG}")
    seen = await opened(events)
    name = seen[-1].pane.name
    await until(person, name, lambda pane: bool(pane.text))

    await overwrite(person, name, "mine")
    seen += await rest_of(events)
    first, second = panes_of(seen)
    theirs, ours = await get(person, first), await get(person, second)

    assert (first, theirs.text, theirs.author) == (name, "mine", "person")
    assert (ours.text, ours.state, ours.title) == (LINES, Pane.STATE_READY, "notes.txt (answer)")
    assert panes_of(seen) == {first: LINES, second: LINES}
    assert text_of(seen) == LONG
    assert kinds(seen)[-1] == "done"


async def overwrite(person: Person, name: str, text: str) -> None:
    """As a person does who is told that the answer was faster, and says it again."""
    while True:
        changed = Pane(name=name, text=text, etag=(await get(person, name)).etag)
        request = wire.UpdatePaneRequest(pane=changed, update_mask=FieldMask(paths=["text"]))
        try:
            await person.canvas.UpdatePane(request, metadata=person.metadata)
        except grpc.aio.AioRpcError as error:
            assert sent(error).reason == "ETAG_STALE"
        else:
            return


async def test_a_pane_that_a_person_deletes_while_it_grows_stays_deleted(person: Person) -> None:
    events = stream(person, f"script:pace=50 script:say\n{LONG}")
    seen = await opened(events)
    name = seen[-1].pane.name
    await until(person, name, lambda pane: bool(pane.text))

    await person.canvas.DeletePane(wire.DeletePaneRequest(name=name), metadata=person.metadata)
    seen += await rest_of(events)

    assert list(panes_of(seen)) == [name]
    assert text_of(seen) == LONG
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, name)


async def test_without_canvas_the_answer_is_as_ever_and_its_end_a_little_late(house: House, person: Person) -> None:
    events = stream(person, f"script:pace=50 script:say\n{LONG}")
    seen = await opened(events)
    async with without_canvas(house):
        async for event in events:
            seen.append(event)
            if event.text.delta.endswith("Done."):
                whole_at = time.monotonic()
        late_s = time.monotonic() - whole_at

    assert order(seen) == ["accepted", "decision", "text", "pane", "text", "pane", "text", "done"]
    assert text_of(seen) == LONG
    assert late_s < 10, "two seconds, and what a busy machine adds"
    assert "panes not written" in (house.folder / "agent.log").read_text()


async def test_a_canvas_that_comes_back_while_the_turn_runs_gets_what_it_missed(house: House, person: Person) -> None:
    async with without_canvas(house):
        events = stream(person, f"script:pace=75 script:say\n```\n{LINES * 20}")
        seen = await opened(events)
    turn, name = seen[0].accepted.turn, seen[-1].pane.name

    await until(person, name, lambda pane: bool(pane.text))
    await person.chat.CancelTurn(chat_wire.CancelTurnRequest(name=turn), metadata=person.metadata)

    assert (await get(person, name)).text == panes_of(seen + await rest_of(events))[name]


async def test_a_turn_cancelled_in_a_pane_closes_it_first(person: Person) -> None:
    events = stream(person, f"script:pace=75 script:say\n{LONG}")
    seen = await opened(events)
    turn, name = seen[0].accepted.turn, seen[-1].pane.name
    seen.append(await anext(events))

    await person.chat.CancelTurn(chat_wire.CancelTurnRequest(name=turn), metadata=person.metadata)
    seen += await rest_of(events)
    pane = await get(person, name)

    assert order(seen)[-4:] == ["pane", "text", "pane", "done"]
    assert seen[-1].done.finish_reason == "cancelled"
    assert (pane.text, pane.state) == (panes_of(seen)[name], Pane.STATE_READY)


async def test_a_turn_that_breaks_off_in_a_pane_closes_it_first(person: Person) -> None:
    events = await ask(person, f"script:cut=20 script:say\n{LONG}")

    assert order(events)[-4:] == ["pane", "text", "pane", "error"]
    [(name, text)] = panes_of(events).items()
    pane = await get(person, name)
    assert (pane.text, pane.state) == (text, Pane.STATE_READY)


async def test_who_watches_later_sees_the_same_panes(person: Person) -> None:
    events = await ask(person, f"script:say\n{CODE}\n{ALL}")

    assert await watch(person, events[0].accepted.turn) == events


async def test_an_answer_without_panes_says_nothing_of_them(house: House, person: Person) -> None:
    events = await ask(person, "script:say\nOne | two\n\n- `three`\n")

    assert order(events) == ["accepted", "decision", "text", "done"]


async def test_a_turn_that_outlives_its_token_writes_its_panes(house: House) -> None:
    events = await ask(house.person(ttl_s=2), f"script:wait=2500 script:say\n{CODE}")

    [name] = panes_of(events)
    assert (await get(house.person(), name)).text == "print(1)\nprint(2)\n"


async def delete(person: Person, conversation: str, **fields: str) -> None:
    request = conversation_wire.DeleteConversationRequest(name=conversation, **fields)
    await person.conversations.DeleteConversation(request, metadata=person.metadata)


async def is_done(deed: Coroutine[None, None, None]) -> bool:
    """False when a part was away, and it may be tried again."""
    try:
        await deed
    except grpc.aio.AioRpcError as error:
        assert error.code() == StatusCode.UNAVAILABLE, error.details()
        return False
    return True


async def panes_in(house: House, conversation: str) -> int:
    rows = await house.rows("SELECT 1 FROM t_acme.panes WHERE conversation = $1::uuid", conversation.split("/")[1])
    return len(rows)


async def test_deleting_a_conversation_deletes_its_panes(house: House, person: Person) -> None:
    events = await asked_in_time(house, person, f"script:say\n{CODE}\n{ALL}")
    conversation, names = events[0].accepted.conversation, list(panes_of(events))
    assert await panes_in(house, conversation) == 4

    await delete(person, conversation)

    assert await panes_in(house, conversation) == 0
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, names[0])


async def test_deleting_a_conversation_in_mid_pane_leaves_none(house: House, person: Person) -> None:
    events = stream(person, f"script:pace=75 script:say\n{LONG}")
    seen = await opened(events)
    await until(person, seen[-1].pane.name, lambda pane: True)

    await delete(person, seen[0].accepted.conversation)

    assert kinds(await rest_of(events))[-1] == "done"
    assert await panes_in(house, seen[0].accepted.conversation) == 0


async def test_nothing_is_deleted_while_the_panes_cannot_be_and_a_repeat_does_it(house: House, person: Person) -> None:
    conversation = (await ask(person, f"script:say\n{CODE}"))[0].accepted.conversation
    id = str(uuid.uuid4())

    async with without_canvas(house):
        with refused(StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE"):
            await delete(person, conversation, request_id=id)
        found = conversation_wire.GetConversationRequest(name=conversation)
        assert (await person.conversations.GetConversation(found, metadata=person.metadata)).name == conversation

    async with asyncio.timeout(10):
        while not await is_done(delete(person, conversation, request_id=id)):
            await asyncio.sleep(0.2)
    assert await panes_in(house, conversation) == 0
    async with without_canvas(house):
        await delete(person, conversation, request_id=id)


async def test_a_refused_deletion_takes_no_pane(house: House, person: Person) -> None:
    conversation = (await ask(person, f"script:say\n{CODE}"))[0].accepted.conversation
    id, other = str(uuid.uuid4()), (await begin(person, "other"))[1]
    await delete(person, other, request_id=id)

    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        await delete(person, conversation, request_id=id)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await delete(house.person(name="other"), conversation)

    assert await panes_in(house, conversation) == 1
