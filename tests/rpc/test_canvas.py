"""Panes over a real socket."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused
from soma.agent.v1.conversation_service_pb2 import DeleteConversationRequest
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import Pane
from tests.canvases import (
    arrange,
    audited,
    conversation,
    create,
    delete,
    get,
    layout,
    listed,
    restore,
    told,
    update,
    version,
    versions,
    watching,
)
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")
LARGEST = 256 * 1024
SECRET = "what-nobody-else-may-read"


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


async def test_a_pane_is_what_was_asked_for_and_can_be_read(person: Person) -> None:
    parent = await conversation(person)

    made = await create(person, parent, "x = 1\n", kind="code", title="A sum", language="python")

    assert made.name.startswith(f"{parent}/panes/")
    assert (made.kind, made.title, made.language, made.text) == ("code", "A sum", "python", "x = 1\n")
    assert (made.version, made.state, made.author, made.turn) == (1, Pane.STATE_READY, "person", "")
    assert await get(person, made.name) == made


async def test_a_pane_without_a_kind_is_code(person: Person) -> None:
    assert (await create(person, await conversation(person))).kind == "code"


async def test_what_a_person_does_to_a_pane_is_audited_and_told_once_each(house: House, person: Person) -> None:
    made = await create(person, await conversation(person), "one")
    changed = await update(person, made.name, made.etag, text="two")
    await restore(person, f"{made.name}/versions/1", changed.etag)
    await delete(person, made.name)

    done = [("pane.created", "done"), ("pane.updated", "done"), ("pane.restored", "done"), ("pane.deleted", "done")]
    assert await audited(house, made.name) == done
    assert await told(house, made.name) == ["pane.created", "pane.updated", "pane.updated", "pane.deleted"]


async def test_what_is_in_a_pane_is_in_no_event(house: House, person: Person) -> None:
    secret = f"secret{uuid.uuid4().hex}"
    await create(person, await conversation(person), secret, title=secret)

    assert not await house.rows("SELECT id FROM soma.told WHERE body::text LIKE $1", f"%{secret}%")
    assert not await house.rows("SELECT id FROM soma.audited WHERE body::text LIKE $1", f"%{secret}%")


async def test_panes_are_listed_newest_first_in_pages_with_their_texts(person: Person) -> None:
    parent = await conversation(person)
    made = [await create(person, parent, f"text {n}") for n in range(5)]

    assert await listed(person, parent, page_size=2) == made[::-1]


async def test_a_page_of_panes_ends_early_before_it_is_too_large(person: Person) -> None:
    parent = await conversation(person)
    for _ in range(3):
        await create(person, parent, "x" * LARGEST)

    page = await person.canvas.ListPanes(wire.ListPanesRequest(parent=parent), metadata=person.metadata)

    assert len(page.panes) == 2
    assert page.ByteSize() < 640 * 1024
    assert len(await listed(person, parent)) == 3


async def test_a_page_whose_panes_are_deleted_while_it_is_read_is_a_page_still(person: Person) -> None:
    parent = await conversation(person)
    kept = [await create(person, parent) for _ in range(2)]
    first = wire.ListPanesRequest(parent=parent, page_size=1)

    async def come_and_go() -> None:
        while True:
            await delete(person, (await create(person, parent)).name)

    async def read() -> None:
        for _ in range(60):
            page = await person.canvas.ListPanes(first, metadata=person.metadata)
            assert page.next_page_token

    coming = [asyncio.create_task(come_and_go()) for _ in range(4)]
    await asyncio.gather(*(read() for _ in range(8)))
    for task in coming:
        task.cancel()
    await asyncio.gather(*coming, return_exceptions=True)

    assert {pane.name for pane in kept} <= {pane.name for pane in await listed(person, parent, page_size=1)}


async def test_a_page_token_of_another_list_is_refused(person: Person) -> None:
    parent, other = await conversation(person), await conversation(person)
    for _ in range(2):
        await create(person, parent)
    page = await person.canvas.ListPanes(wire.ListPanesRequest(parent=parent, page_size=1), metadata=person.metadata)

    request = wire.ListPanesRequest(parent=other, page_token=page.next_page_token)
    with refused(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        await person.canvas.ListPanes(request, metadata=person.metadata)


async def test_a_new_text_is_a_new_version_and_a_new_title_is_not(person: Person) -> None:
    made = await create(person, await conversation(person), "one")

    written = await update(person, made.name, made.etag, text="two")
    titled = await update(person, made.name, title="a title")

    assert (written.version, written.text) == (2, "two")
    assert (titled.version, titled.text, titled.title) == (2, "two", "a title")
    assert len({made.etag, written.etag, titled.etag}) == 3


async def test_the_same_text_again_is_no_new_version(person: Person) -> None:
    made = await create(person, await conversation(person), "one")

    assert (await update(person, made.name, made.etag, text="one")).version == 1


async def test_a_text_is_not_changed_without_saying_what_it_was_made_from(person: Person) -> None:
    made = await create(person, await conversation(person), "one")

    with refused(StatusCode.INVALID_ARGUMENT, "ETAG_MISSING"):
        await update(person, made.name, text="two")

    assert await get(person, made.name) == made


async def test_a_stale_etag_changes_nothing_and_both_versions_can_be_read(person: Person) -> None:
    made = await create(person, await conversation(person), "theirs and mine")
    theirs = await update(person, made.name, made.etag, text="theirs")

    with refused(StatusCode.ABORTED, "ETAG_STALE") as held:
        await update(person, made.name, made.etag, text="mine")

    facts = held[0].metadata
    assert facts["etag"] == theirs.etag
    assert (await version(person, facts["newest"])).text == "theirs"
    assert (await version(person, facts["base"])).text == "theirs and mine"
    assert await get(person, made.name) == theirs


@pytest.mark.parametrize("etag", ["0-0", "7-1", "rubbish", "1-1\0", "1" * 5000, "999999999-1"])
async def test_an_etag_that_never_was_is_stale_and_has_no_base(person: Person, etag: str) -> None:
    made = await create(person, await conversation(person), "one")

    with refused(StatusCode.ABORTED, "ETAG_STALE") as held:
        await update(person, made.name, etag, text="two")

    assert "base" not in held[0].metadata
    assert await get(person, made.name) == made


async def test_a_title_a_deletion_and_a_restoration_may_go_without_an_etag_but_not_with_a_stale_one(
    person: Person,
) -> None:
    made = await create(person, await conversation(person), "one")
    await update(person, made.name, made.etag, text="two")

    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await update(person, made.name, made.etag, title="stale")
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await restore(person, f"{made.name}/versions/1", made.etag)
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await delete(person, made.name, made.etag)

    await update(person, made.name, title="fine")
    await restore(person, f"{made.name}/versions/1")
    await delete(person, made.name)


async def test_of_many_changes_with_one_etag_exactly_one_wins(house: House, person: Person) -> None:
    made = await create(person, await conversation(person), "start")

    async def change(n: int) -> str:
        try:
            return (await update(person, made.name, made.etag, text=f"by {n}")).text
        except grpc.aio.AioRpcError as error:
            assert error.code() == StatusCode.ABORTED
            return ""

    texts = [text for text in await asyncio.gather(*(change(n) for n in range(16))) if text]

    now = await get(person, made.name)
    assert texts == [now.text]
    assert now.version == 2
    assert await told(house, made.name) == ["pane.created", "pane.updated"]


@pytest.mark.parametrize("paths", [[], ["name"], ["kind"], ["text", "etag"], ["*"], ["text.x"], ["version"]])
async def test_a_mask_of_anything_but_title_language_and_text_is_refused(person: Person, paths: list[str]) -> None:
    made = await create(person, await conversation(person), "one")
    pane = Pane(name=made.name, etag=made.etag, text="two", kind="html")

    request = wire.UpdatePaneRequest(pane=pane, update_mask=FieldMask(paths=paths))
    with refused(StatusCode.INVALID_ARGUMENT, "UPDATE_MASK_INVALID"):
        await person.canvas.UpdatePane(request, metadata=person.metadata)

    assert await get(person, made.name) == made


async def test_a_repeated_request_makes_one_pane_one_change_and_one_deletion(house: House, person: Person) -> None:
    parent, ids = await conversation(person), [str(uuid.uuid4()) for _ in range(3)]

    made = await create(person, parent, "one", request_id=ids[0])
    assert await create(person, parent, "one", request_id=ids[0]) == made
    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        await create(person, parent, "two", request_id=ids[0])

    changed = await update(person, made.name, made.etag, text="two", request_id=ids[1])
    assert await update(person, made.name, made.etag, text="two", request_id=ids[1]) == changed
    assert changed.version == 2

    await delete(person, made.name, request_id=ids[2])
    await delete(person, made.name, request_id=ids[2])
    assert await listed(person, parent) == []
    assert await told(house, made.name) == ["pane.created", "pane.updated", "pane.deleted"]


async def test_a_deleted_pane_is_gone_with_its_versions(house: House, person: Person) -> None:
    made = await create(person, await conversation(person), "one")
    await update(person, made.name, made.etag, text="two")

    await delete(person, made.name)

    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, made.name)
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await versions(person, made.name)
    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await version(person, f"{made.name}/versions/1")
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await delete(person, made.name)
    kept = "SELECT version FROM t_acme.pane_versions WHERE pane = $1"
    assert not await house.rows(kept, uuid.UUID(made.name.rpartition("/")[2]))


async def test_a_pane_holds_256_kib_and_not_a_byte_more(person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "ü" * (LARGEST // 2))

    with refused(StatusCode.INVALID_ARGUMENT, "PANE_TOO_LARGE"):
        await create(person, parent, "ü" * (LARGEST // 2) + "x")
    with refused(StatusCode.INVALID_ARGUMENT, "PANE_TOO_LARGE"):
        await update(person, made.name, made.etag, text="x" * (LARGEST + 1))

    assert await listed(person, parent) == [made]


async def test_a_character_that_the_store_cannot_hold_is_refused_in_words(person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "one")

    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
        await create(person, parent, "a\0b")
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
        await update(person, made.name, title="a\0b")

    assert await listed(person, parent) == [made]


async def test_whatever_utf8_can_say_is_kept_as_given(person: Person) -> None:
    text = "\u0001\u2028\ufeff\r\n\tå🦊\u202e" + '"\\</script>\ud7ff\U0010ffff'
    made = await create(person, await conversation(person), text)

    assert (await get(person, made.name)).text == text


UNKNOWN = ["", "conversations/", "conversations/1", f"conversations/{uuid.uuid4()}", "x" * 4096]


@pytest.mark.parametrize("name", UNKNOWN)
async def test_an_unknown_conversation_has_no_canvas(person: Person, name: str) -> None:
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await create(person, name)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await listed(person, name)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await layout(person, name)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await arrange(person, name, panes=[])
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        async with watching(person, name) as events:
            await anext(events)


@pytest.mark.parametrize("name", [*UNKNOWN, f"conversations/{uuid.uuid4()}/panes/{uuid.uuid4()}"])
async def test_an_unknown_pane_is_not_found(person: Person, name: str) -> None:
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, name)
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await update(person, name, title="x")
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await delete(person, name)
    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await versions(person, name)
    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await version(person, f"{name}/versions/1")
    with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
        await restore(person, f"{name}/versions/1")


async def test_a_pane_is_not_found_under_another_conversation_of_the_same_person(person: Person) -> None:
    made, other = await create(person, await conversation(person)), await conversation(person)

    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, f"{other}/panes/{made.name.rpartition('/')[2]}")


async def test_anothers_canvas_can_be_neither_seen_nor_touched(house: House, person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "private")
    await arrange(person, parent, panes=[made.name])
    for stranger in (house.person(name="other"), house.person("globex"), house.person(name="boss", roles=("admin",))):
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await create(stranger, parent, "mine")
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await listed(stranger, parent)
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await layout(stranger, parent)
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await arrange(stranger, parent, panes=[])
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            async with watching(stranger, parent) as events:
                await anext(events)
        with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
            await get(stranger, made.name)
        with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
            await update(stranger, made.name, made.etag, text="mine")
        with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
            await delete(stranger, made.name)
        with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
            await versions(stranger, made.name)
        with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
            await version(stranger, f"{made.name}/versions/1")
        with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
            await restore(stranger, f"{made.name}/versions/1")

    assert await listed(person, parent) == [made]


async def test_a_deleted_conversation_has_no_canvas(person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, "one")

    await person.conversations.DeleteConversation(DeleteConversationRequest(name=parent), metadata=person.metadata)

    with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
        await get(person, made.name)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await listed(person, parent)


async def test_a_person_may_not_write_as_the_agent_does(person: Person) -> None:
    parent = await conversation(person)
    pane = Pane(name=f"{parent}/panes/{uuid.uuid4()}")

    with refused(StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED"):
        await person.canvas.WritePane(wire.WritePaneRequest(pane=pane, turn="t"), metadata=person.metadata)
    with refused(StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED"):
        await person.canvas.DeleteCanvas(wire.DeleteCanvasRequest(parent=parent), metadata=person.metadata)


async def test_a_repeat_is_told_what_is_now_and_leaves_no_second_audit_row(house: House, person: Person) -> None:
    id = str(uuid.uuid4())
    made = await create(person, await conversation(person), "one", request_id=id)
    changed = await update(person, made.name, made.etag, text="two")
    repeated = await create(person, made.name.rpartition("/panes/")[0], "one", request_id=id)

    audit = await house.rows("SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", made.name)
    assert repeated == changed
    assert [row["action"] for row in audit] == ["pane.created", "pane.updated"]


async def test_of_a_deleted_conversation_no_text_is_left_in_any_table(house: House, person: Person) -> None:
    parent = await conversation(person)
    made = await create(person, parent, SECRET, request_id=str(uuid.uuid4()), title=SECRET)
    await update(person, made.name, made.etag, text=SECRET + "2", request_id=str(uuid.uuid4()))
    request = DeleteConversationRequest(name=parent)
    await person.conversations.DeleteConversation(request, metadata=person.metadata)

    tables = await house.rows(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('t_acme', 'soma')"
    )
    for table in tables:
        rows = await house.rows(f"SELECT t::text AS row FROM {table['name']} AS t")
        found = [row for row in rows if SECRET in row["row"] or SECRET.encode().hex() in row["row"]]
        assert not found, table["name"]
