"""Conversations over a real socket."""

from __future__ import annotations

import uuid

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused
from soma.agent.v1 import conversation_service_pb2 as wire
from soma.agent.v1.conversation_pb2 import Conversation
from tests.asking import ask
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")
TITLE = FieldMask(paths=["title"])


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


async def create(person: Person, title: str = "", **fields: str) -> Conversation:
    request = wire.CreateConversationRequest(conversation=Conversation(title=title), **fields)
    return await person.conversations.CreateConversation(request, metadata=person.metadata)


async def retitle(person: Person, name: str, title: str, etag: str = "", mask: FieldMask = TITLE) -> Conversation:
    changed = Conversation(name=name, title=title, etag=etag)
    request = wire.UpdateConversationRequest(conversation=changed, update_mask=mask)
    return await person.conversations.UpdateConversation(request, metadata=person.metadata)


async def get(person: Person, name: str) -> Conversation:
    return await person.conversations.GetConversation(wire.GetConversationRequest(name=name), metadata=person.metadata)


async def test_the_first_question_gives_a_conversation_its_title(person: Person) -> None:
    name = (await ask(person, "What is\n a turn, and why does it run by itself in this house of ours?"))[
        0
    ].accepted.conversation

    assert (await get(person, name)).title == "What is a turn, and why does it run by itself in this house…"


async def test_a_conversation_created_without_a_title_gets_one_by_its_first_question(person: Person) -> None:
    made = await create(person)
    await ask(person, "hello there", conversation=made.name)

    assert (await get(person, made.name)).title == "hello there"


async def test_conversations_are_listed_newest_first_in_pages(house: House) -> None:
    person = house.person(name=f"lister{uuid.uuid4().hex[:6]}")
    made = [(await create(person, f"c{n}")).name for n in range(5)]

    listed, token = [], ""
    while True:
        request = wire.ListConversationsRequest(page_size=2, page_token=token)
        page = await person.conversations.ListConversations(request, metadata=person.metadata)
        listed += [c.name for c in page.conversations]
        token = page.next_page_token
        if not token:
            break

    assert listed == made[::-1]


async def test_a_title_changes_and_so_does_the_etag(person: Person) -> None:
    made = await create(person, "old")

    changed = await retitle(person, made.name, "new", etag=made.etag)

    assert changed.title == "new"
    assert changed.etag != made.etag
    assert await get(person, made.name) == changed


async def test_a_stale_etag_changes_nothing(person: Person) -> None:
    made = await create(person, "old")
    await retitle(person, made.name, "theirs", etag=made.etag)

    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        await retitle(person, made.name, "mine", etag=made.etag)

    assert (await get(person, made.name)).title == "theirs"


@pytest.mark.parametrize("paths", [[], ["name"], ["title", "etag"], ["*"]])
async def test_a_mask_that_is_not_the_title_is_refused(person: Person, paths: list[str]) -> None:
    made = await create(person, "kept")

    with refused(StatusCode.INVALID_ARGUMENT, "UPDATE_MASK_INVALID"):
        await retitle(person, made.name, "new", mask=FieldMask(paths=paths))

    assert (await get(person, made.name)).title == "kept"


async def test_a_repeated_create_makes_one_conversation(person: Person) -> None:
    id = str(uuid.uuid4())

    assert await create(person, "one", request_id=id) == await create(person, "one", request_id=id)
    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        await create(person, "two", request_id=id)


async def test_a_repeated_delete_answers_again_without_an_error(person: Person) -> None:
    made, id = await create(person, "gone"), str(uuid.uuid4())
    request = wire.DeleteConversationRequest(name=made.name, request_id=id)

    await person.conversations.DeleteConversation(request, metadata=person.metadata)
    await person.conversations.DeleteConversation(request, metadata=person.metadata)

    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await get(person, made.name)


@pytest.mark.parametrize("name", ["", "conversations/", "conversations/1", f"conversations/{uuid.uuid4()}", "x" * 4096])
async def test_an_unknown_conversation_is_not_found(person: Person, name: str) -> None:
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await get(person, name)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await retitle(person, name, "x")


async def test_anothers_conversation_can_neither_be_read_nor_changed_nor_deleted(house: House, person: Person) -> None:
    made = await create(person, "private")
    for stranger in (house.person(name="other"), house.person("globex"), house.person(name="boss", roles=("admin",))):
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await get(stranger, made.name)
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await retitle(stranger, made.name, "mine")
        with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
            await stranger.conversations.DeleteConversation(
                wire.DeleteConversationRequest(name=made.name), metadata=stranger.metadata
            )

    assert await get(person, made.name) == made


async def test_an_unknown_tenant_is_refused_in_words(house: House) -> None:
    stranger = house.person("initech")

    with refused(StatusCode.PERMISSION_DENIED, "TENANT_UNKNOWN"):
        await create(stranger, "x")
