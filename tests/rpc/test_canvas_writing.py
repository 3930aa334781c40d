"""What an answer writes into panes, and how it goes with what people do to them."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.common.testing import refused
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from tests.canvases import (
    Turn,
    arrange,
    audited,
    conversation,
    create,
    delete,
    delete_canvas,
    get,
    id_of,
    layout,
    listed,
    told,
    update,
    version,
    versions,
)
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


@pytest_asyncio.fixture(loop_scope="session")
async def turn(person: Person) -> Turn:
    return Turn(person, await conversation(person))


async def lapse(house: House, pane: str) -> None:
    """As if nothing had been heard of the turn for ten seconds."""
    await house.rows("UPDATE t_acme.panes SET writing_until = now() - interval '1 second' WHERE id = $1", id_of(pane))


async def test_a_turn_makes_the_pane_that_it_names(turn: Turn, person: Person) -> None:
    written = await turn.write("<h1>", kind="html", title="Page", language="html")

    assert (written.name, written.turn, written.author) == (turn.name, turn.turn, "agent")
    assert (written.kind, written.title, written.language, written.text) == ("html", "Page", "html", "<h1>")
    assert written.state == Pane.STATE_WRITING
    assert await get(person, turn.name) == written


async def test_what_a_turn_writes_is_one_version_however_often_it_is_written(turn: Turn, person: Person) -> None:
    etags = [(await turn.write("a" * n)).etag for n in range(1, 5)]
    written = await turn.write("a" * 5, finished=True)

    assert len({*etags, written.etag}) == 5
    assert (written.version, written.text, written.state) == (1, "aaaaa", Pane.STATE_READY)
    assert [v.version for v in await versions(person, turn.name)] == [1]


async def test_of_what_a_turn_writes_the_begin_and_the_end_are_audited_and_told(house: House, turn: Turn) -> None:
    for n in range(5):
        await turn.write("a" * n)
    await turn.write("end", finished=True)

    assert await audited(house, turn.name) == [("pane.written", "done")] * 2
    assert await told(house, turn.name) == ["pane.created", "pane.updated"]


async def test_a_pane_written_at_once_is_told_once(house: House, turn: Turn) -> None:
    await turn.write("all of it", finished=True)

    assert await told(house, turn.name) == ["pane.created"]


async def test_a_write_whose_answer_was_lost_may_be_repeated(house: House, turn: Turn, person: Person) -> None:
    first = await turn.write("a")
    assert (await turn.write("a", etag="")).version == 1
    assert (await turn.write("ab", etag="")).text == "ab"
    assert (await turn.write("abc", etag=first.etag)).text == "abc"

    last = await turn.write("abcd", etag=first.etag, finished=True)
    assert await turn.write("abcd", etag=first.etag, finished=True) == last

    assert await told(house, turn.name) == ["pane.created", "pane.updated"]
    assert len(await versions(person, turn.name)) == 1


async def test_a_write_that_comes_after_the_last_takes_nothing_back(turn: Turn, person: Person) -> None:
    first = await turn.write("a")
    last = await turn.write("abc", finished=True)

    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await turn.write("ab", etag=first.etag)

    assert await get(person, turn.name) == last


async def test_a_person_takes_over_what_a_turn_writes_and_the_turn_is_told(turn: Turn, person: Person) -> None:
    written = await turn.write("the agent's")

    taken = await update(person, turn.name, written.etag, text="a person's")

    assert (taken.version, taken.author, taken.state) == (2, "person", Pane.STATE_READY)
    with refused(StatusCode.ABORTED, "ETAG_STALE") as held:
        await turn.write("the agent's, longer")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await turn.write("the agent's, longer", etag="", finished=True)
    assert await get(person, turn.name) == taken
    assert (await version(person, held[0].metadata["base"])).text == "the agent's"


async def test_a_person_whose_etag_a_turn_has_outrun_loses_nothing_and_sees_both(turn: Turn, person: Person) -> None:
    seen = await turn.write("one")
    await turn.write("one two")

    with refused(StatusCode.ABORTED, "ETAG_STALE") as held:
        await update(person, turn.name, seen.etag, text="one!")

    facts = held[0].metadata
    assert facts["newest"] == facts["base"] == f"{turn.name}/versions/1"
    assert (await update(person, turn.name, facts["etag"], text="one! two")).version == 2


async def test_a_title_that_a_person_gives_stays_and_the_turn_writes_on(turn: Turn, person: Person) -> None:
    await turn.write("one", title="the agent's title")
    await update(person, turn.name, title="mine")

    await turn.write("one two", title="the agent's title")
    written = await turn.write("one two three", finished=True, title="another title of the agent's")

    assert (written.title, written.text, written.version) == ("mine", "one two three", 1)


async def test_a_turn_that_a_person_deleted_the_pane_of_does_not_bring_it_back(turn: Turn, person: Person) -> None:
    await turn.write("one")
    await delete(person, turn.name)

    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await turn.write("one two")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await turn.write("one two", etag="")

    assert await listed(person, turn.parent) == []


async def test_another_turn_makes_another_version_and_needs_the_newest_etag(turn: Turn, person: Person) -> None:
    await turn.write("first", finished=True)
    second = Turn(person, turn.parent, name=turn.name)

    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await second.write("second")
    second.etag = turn.etag
    await second.write("second")
    written = await second.write("second, longer", finished=True)

    assert (written.version, written.turn) == (2, turn.turn)
    assert (await version(person, f"{turn.name}/versions/1")).text == "first"


async def test_a_turn_that_is_heard_of_no_more_writes_no_more(house: House, turn: Turn, person: Person) -> None:
    await turn.write("half")
    await lapse(house, turn.name)
    assert (await get(person, turn.name)).state == Pane.STATE_READY

    back = await turn.write("half and half")

    assert (back.state, back.version) == (Pane.STATE_WRITING, 1)


async def test_a_turn_writes_on_after_its_persons_token_has_expired(house: House, turn: Turn) -> None:
    late = house.person(ttl_s=-100)

    written = await Turn(late, turn.parent).write("late")

    assert written.text == "late"


async def test_a_turn_writes_only_into_panes_of_its_person(house: House, turn: Turn, person: Person) -> None:
    await turn.write("mine", finished=True)
    stranger = house.person(name="other")

    theirs = Turn(stranger, turn.parent, name=turn.name, etag=turn.etag)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await theirs.write("theirs")

    assert (await get(person, turn.name)).text == "mine"


@pytest.mark.parametrize("name", ["", "conversations/1/panes/1", "x" * 4096])
async def test_a_turn_cannot_write_under_a_name_that_is_none(person: Person, name: str) -> None:
    agent = CanvasServiceStub(person.house.channel("canvas", "agent"))

    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        request = wire.WritePaneRequest(pane=Pane(name=name), turn="a turn")
        await agent.WritePane(request, metadata=person.metadata)


async def test_a_deleted_canvas_leaves_nothing_and_can_be_deleted_again(house: House, person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "one")
    await update(person, made.name, made.etag, text="two")
    await arrange(person, parent, panes=[made.name])

    await delete_canvas(person, parent)
    await delete_canvas(person, parent)

    assert await listed(person, parent) == []
    assert list((await layout(person, parent)).panes) == []
    for table in ("panes", "pane_versions", "gone_panes", "layouts"):
        assert not await house.rows(f"SELECT 1 FROM t_acme.{table} WHERE conversation = $1", id_of(parent))
    assert await audited(house, parent) == [("conversation.created", "done"), ("canvas.deleted", "done")]


async def test_who_writes_while_the_conversation_is_being_deleted_leaves_nothing_behind(
    house: House, person: Person, turn: Turn
) -> None:
    await turn.write("one")

    await asyncio.gather(
        delete_canvas(person, turn.parent),
        *(create(person, turn.parent, "late") for _ in range(8)),
        return_exceptions=True,
    )

    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await turn.write("one two")
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await Turn(person, turn.parent).write("another")
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await create(person, turn.parent)
    assert not await house.rows("SELECT 1 FROM t_acme.panes WHERE conversation = $1", id_of(turn.parent))


async def test_a_conversation_that_was_not_deleted_after_all_has_a_canvas_again(house: House, person: Person) -> None:
    parent = await conversation(person)
    await create(person, parent, "old")
    await delete_canvas(person, parent)

    earlier = "UPDATE t_acme.canvases SET delete_time = now() - interval '1 minute' WHERE conversation = $1"
    await house.rows(earlier, id_of(parent))
    made = await create(person, parent, "new")

    assert await listed(person, parent) == [made]


async def test_the_memory_of_deleted_canvases_goes_after_a_day(house: House, person: Person) -> None:
    old, new = await conversation(person), await conversation(person)
    await delete_canvas(person, old)
    yesterday = "UPDATE t_acme.canvases SET delete_time = now() - interval '25 hours' WHERE conversation = $1"
    await house.rows(yesterday, id_of(old))

    await delete_canvas(person, new)

    assert not await house.rows("SELECT 1 FROM t_acme.canvases WHERE conversation = $1", id_of(old))


async def test_a_stranger_cannot_delete_a_canvas_nor_stop_it(house: House, person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "mine")

    await delete_canvas(house.person(name="other"), parent)
    await delete_canvas(house.person("globex"), parent)

    assert await listed(person, parent) == [made]
    assert (await update(person, made.name, made.etag, text="still mine")).version == 2
