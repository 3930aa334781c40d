"""In PRODUCTION-ENTERPRISE the audit trail tells of what people read, too; in other modes of what they did alone."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.common.interceptors import read_of
from services.common.testing import refused
from services.local.ports import free_port
from soma.agent.v1 import conversation_service_pb2 as wire
from soma.agent.v1.chat_service_pb2 import WatchTurnRequest
from tests.asking import ask
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET = "conversation_service.get_conversation"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(house: House) -> AsyncIterator[str]:
    """An agent of such a mode."""
    place = {"SOMAGENT_MODE": "PRODUCTION-ENTERPRISE", "SOMA_LISTEN": f"127.0.0.1:{free_port()}"}
    house.environment["agent7"] = house.environment["agent"] | place
    await house.start("agent7")
    yield "agent7"
    await house.end("agent7")


async def told(person: Person, trace: str) -> list[dict[str, Any]]:
    sql = "SELECT action, body->>'resource' AS resource, body->>'reason' AS reason, body->>'subject' AS subject"
    return [dict(row) for row in await person.house.rows(f"{sql} FROM soma.audited WHERE body->>'trace' = $1", trace)]


def traced(person: Person) -> tuple[str, Any]:
    trace = uuid.uuid4().hex
    return trace, (*person.metadata, ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))


async def test_the_action_of_a_read_is_its_method() -> None:
    assert read_of("/soma.agent.v1.ConversationService/ListConversations") == "conversation_service.list_conversations"
    assert read_of("/soma.console.v1.AuditService/GetInclusionProof") == "audit_service.get_inclusion_proof"


async def test_what_a_person_reads_is_told_and_so_is_what_they_may_not(house: House, strict: str) -> None:
    person = house.person(name=f"reader-{uuid.uuid4()}", at=strict)
    made = await person.conversations.CreateConversation(wire.CreateConversationRequest(), metadata=person.metadata)
    trace, metadata = traced(person)
    await person.conversations.GetConversation(wire.GetConversationRequest(name=made.name), metadata=metadata)
    [row] = await told(person, trace)
    assert (row["action"], row["resource"], row["reason"]) == (GET, made.name, None)
    assert row["subject"].startswith("p_")

    trace, metadata = traced(person)
    with refused(StatusCode.NOT_FOUND, reason="CONVERSATION_UNKNOWN"):
        await person.conversations.GetConversation(
            wire.GetConversationRequest(name=f"conversations/{uuid.uuid4()}"), metadata=metadata
        )
    assert [(row["action"], row["reason"]) for row in await told(person, trace)] == [(GET, "CONVERSATION_UNKNOWN")]


async def test_a_stream_that_was_read_is_told_when_it_ends(house: House, strict: str) -> None:
    person = house.person(name=f"reader-{uuid.uuid4()}", at=strict)
    turn = (await ask(person, "Hello"))[0].accepted.turn
    trace, metadata = traced(person)
    async for _ in person.chat.WatchTurn(WatchTurnRequest(name=turn), metadata=metadata):
        pass
    [row] = await told(person, trace)
    assert (row["action"], row["resource"]) == ("chat_service.watch_turn", turn)


async def test_in_other_modes_reads_leave_no_trace_in_the_trail(house: House) -> None:
    person = house.person()
    trace, metadata = traced(person)
    await person.conversations.ListConversations(wire.ListConversationsRequest(), metadata=metadata)
    assert await told(person, trace) == []
