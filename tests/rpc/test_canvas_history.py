"""Versions, layouts and limits, over a real socket."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused
from services.local.ports import free_port
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Layout
from tests.canvases import (
    Turn,
    arrange,
    at,
    audited,
    conversation,
    create,
    delete,
    get,
    layout,
    listed,
    restore,
    update,
    version,
    versions,
)
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")
SMALL = {"SOMA_PANES": "3", "SOMA_TEXT_BYTES": "100", "SOMA_VERSIONS": "4", "SOMA_VERSION_BYTES": "60"}


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(house: House) -> AsyncIterator[Person]:
    """Someone at a room with room for little: 3 panes of 100 bytes together; 4 versions of 60 bytes together."""
    house.environment["canvas7"] = house.environment["canvas"] | SMALL | {"SOMA_LISTEN": f"127.0.0.1:{free_port()}"}
    await house.start("canvas7")
    yield at(house.person(), "canvas7")
    await house.end("canvas7")


async def test_versions_are_listed_newest_first_in_pages_without_their_texts(person: Person) -> None:
    made = await create(person, await conversation(person), "text 1", title="a title")
    for n in range(2, 6):
        made = await update(person, made.name, made.etag, text=f"text {n}")

    found = await versions(person, made.name, page_size=2)

    assert [v.version for v in found] == [5, 4, 3, 2, 1]
    assert [v.name for v in found] == [f"{made.name}/versions/{n}" for n in (5, 4, 3, 2, 1)]
    assert {(v.text, v.size_bytes, v.title, v.author) for v in found} == {("", 6, "a title", "person")}


async def test_each_version_can_be_read_as_it_was(person: Person) -> None:
    first = await create(person, await conversation(person), "one", title="first", language="python")
    second = await update(person, first.name, first.etag, text="two", title="second", language="go")

    old, new = await version(person, f"{first.name}/versions/1"), await version(person, f"{first.name}/versions/2")

    assert (old.text, old.title, old.language, old.create_time) == ("one", "first", "python", first.create_time)
    assert (new.text, new.title, new.language, new.create_time) == ("two", "second", "go", second.update_time)


@pytest.mark.parametrize("number", ["0", "2", "01", "-1", "1.0", "", "x", "9" * 30, "1/x"])
async def test_an_unknown_version_is_not_found(person: Person, number: str) -> None:
    made = await create(person, await conversation(person), "one")

    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await version(person, f"{made.name}/versions/{number}")
    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await restore(person, f"{made.name}/versions/{number}")

    assert await get(person, made.name) == made


async def test_a_version_that_is_restored_is_a_version_of_its_own_and_nothing_is_lost(person: Person) -> None:
    made = await create(person, await conversation(person), "one", title="first")
    changed = await update(person, made.name, made.etag, text="two", title="second")

    restored = await restore(person, f"{made.name}/versions/1", changed.etag)

    assert (restored.version, restored.text, restored.title) == (3, "one", "first")
    assert (await version(person, f"{made.name}/versions/2")).text == "two"
    assert [v.version for v in await versions(person, made.name)] == [3, 2, 1]


async def test_a_version_that_is_restored_ends_what_a_turn_writes(person: Person) -> None:
    turn = Turn(person, await conversation(person))
    written = await turn.write("the agent's")
    await update(person, turn.name, written.etag, text="mine")
    again = Turn(person, turn.parent, name=turn.name, etag=(await get(person, turn.name)).etag)
    await again.write("the agent's, again")

    restored = await restore(person, f"{turn.name}/versions/2")

    assert (restored.text, restored.author) == ("mine", "person")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await again.write("more")


async def test_of_many_versions_the_newest_are_kept(small: Person) -> None:
    made = await create(small, await conversation(small), "1")
    for n in range(2, 10):
        made = await update(small, made.name, made.etag, text=str(n))

    assert [v.version for v in await versions(small, made.name)] == [9, 8, 7, 6]
    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await version(small, f"{made.name}/versions/5")


async def test_of_large_versions_the_newest_are_kept_and_the_newest_in_any_case(small: Person) -> None:
    made = await create(small, await conversation(small), "a" * 20)
    made = await update(small, made.name, made.etag, text="b" * 20)
    made = await update(small, made.name, made.etag, text="c" * 30)
    assert [v.version for v in await versions(small, made.name)] == [3, 2]

    made = await update(small, made.name, made.etag, text="d" * 90)
    assert [v.version for v in await versions(small, made.name)] == [4]


async def test_what_a_turn_writes_pushes_the_oldest_versions_out_too(small: Person) -> None:
    made = await create(small, await conversation(small), "a" * 25)
    turn = Turn(small, made.name.rpartition("/panes/")[0], "canvas7", made.name, etag=made.etag)

    await turn.write("b")
    assert len(await versions(small, made.name)) == 2
    await turn.write("b" * 40, finished=True)
    assert len(await versions(small, made.name)) == 1


async def test_a_canvas_has_so_many_panes_and_no_more(small: Person) -> None:
    parent = await conversation(small)
    made = [await create(small, parent, "x") for _ in range(3)]

    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await create(small, parent, "x")
    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await Turn(small, parent, "canvas7").write("x")
    assert await listed(small, parent) == made[::-1]

    await delete(small, made[0].name)
    await create(small, parent, "x")


async def test_a_canvas_holds_so_much_and_no_more_but_can_always_be_made_smaller(small: Person) -> None:
    parent = await conversation(small)
    pane, large = await create(small, parent, "x" * 30), await create(small, parent, "y" * 70)
    turn = Turn(small, parent, "canvas7", large.name, etag=large.etag)

    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL") as held:
        await create(small, parent, "z")
    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await update(small, pane.name, pane.etag, text="x" * 31)
    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await turn.write("y" * 71)

    assert held[0].metadata["largest"] == large.name
    assert await listed(small, parent) == [large, pane]
    smaller = await update(small, pane.name, pane.etag, text="x" * 29)
    await create(small, parent, "z")
    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await restore(small, f"{pane.name}/versions/1")
    assert await get(small, pane.name) == smaller


async def test_a_refusal_for_want_of_room_is_audited_as_such(house: House, small: Person) -> None:
    parent = await conversation(small)
    turn = Turn(small, parent, "canvas7")
    await turn.write("x" * 90)
    with refused(StatusCode.FAILED_PRECONDITION, "CANVAS_FULL"):
        await turn.write("x" * 101)

    sql = "SELECT body->>'reason' AS reason FROM soma.audited WHERE action = 'pane.written' ORDER BY id DESC LIMIT 1"
    assert (await house.rows(sql))[0]["reason"] == "CANVAS_FULL"


async def test_nothing_is_arranged_at_first(person: Person) -> None:
    parent = await conversation(person)

    found = await layout(person, parent)

    assert (found.name, list(found.panes), found.active, found.beside) == (f"{parent}/layout", [], "", "")


async def test_a_layout_is_kept_as_it_was_arranged_field_by_field(house: House, person: Person) -> None:
    parent = await conversation(person)
    first, second = [(await create(person, parent)).name for _ in range(2)]

    await arrange(person, parent, panes=[second, first], active=second, beside=first)
    await arrange(person, parent, active=first)
    changed = await arrange(person, parent, beside="")

    assert (list(changed.panes), changed.active, changed.beside) == ([second, first], first, "")
    assert await layout(person, parent) == changed
    assert await audited(house, changed.name) == [("layout.updated", "done")] * 3


async def test_what_is_no_pane_of_the_conversation_is_left_out_of_its_layout(person: Person) -> None:
    parent = await conversation(person)
    mine, elsewhere = await create(person, parent), await create(person, await conversation(person))
    unknown = f"{parent}/panes/{uuid.uuid4()}"

    changed = await arrange(
        person, parent, panes=[elsewhere.name, mine.name, unknown, "rubbish", mine.name], active=unknown, beside="\0"
    )

    assert (list(changed.panes), changed.active, changed.beside) == ([mine.name], "", "")


async def test_a_deleted_pane_leaves_the_layout_and_that_is_a_change_of_it(person: Person) -> None:
    parent = await conversation(person)
    first, second = [(await create(person, parent)).name for _ in range(2)]
    arranged = await arrange(person, parent, panes=[first, second], active=first, beside=second)

    await delete(person, first)

    left = await layout(person, parent)
    assert (list(left.panes), left.active, left.beside) == ([second], "", second)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await arrange(person, parent, arranged.etag, active=second)


async def test_of_two_tabs_that_arrange_at_once_the_slower_is_told(person: Person) -> None:
    parent = await conversation(person)
    pane, before = (await create(person, parent)).name, await layout(person, parent)
    faster = await arrange(person, parent, before.etag, panes=[pane])

    with refused(StatusCode.ABORTED, "ETAG_STALE") as held:
        await arrange(person, parent, before.etag, panes=[])

    assert held[0].metadata["etag"] == faster.etag
    assert await layout(person, parent) == faster


@pytest.mark.parametrize("paths", [[], ["name"], ["panes", "etag"], ["*"]])
async def test_a_mask_of_anything_but_panes_active_and_beside_is_refused(person: Person, paths: list[str]) -> None:
    parent = await conversation(person)
    request = wire.UpdateLayoutRequest(layout=Layout(name=f"{parent}/layout"), update_mask=FieldMask(paths=paths))

    with refused(StatusCode.INVALID_ARGUMENT, "UPDATE_MASK_INVALID"):
        await person.canvas.UpdateLayout(request, metadata=person.metadata)


async def test_a_repeated_arrangement_is_one(person: Person) -> None:
    parent, id = await conversation(person), str(uuid.uuid4())
    mask = FieldMask(paths=["panes"])
    request = wire.UpdateLayoutRequest(layout=Layout(name=f"{parent}/layout"), update_mask=mask, request_id=id)

    once = await person.canvas.UpdateLayout(request, metadata=person.metadata)

    assert await person.canvas.UpdateLayout(request, metadata=person.metadata) == once
    assert await layout(person, parent) == once
