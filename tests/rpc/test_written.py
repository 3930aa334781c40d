"""The log has all that people wrote and were answered, sealed: nothing in the clear, nothing missing."""

from __future__ import annotations

import json
import uuid

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.agent import store
from services.agent.names import turn_name
from services.common import events
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.db import open_database
from services.common.names import conversation_id
from soma.agent.v1 import conversation_service_pb2 as wire
from soma.agent.v1.chat_event_pb2 import ChatEvent, Text
from soma.agent.v1.chat_service_pb2 import CancelTurnRequest, GetTurnRequest, WatchTurnRequest
from soma.agent.v1.conversation_pb2 import Conversation
from soma.common.v1.model_pb2 import Decision
from tests.asking import ask, begin
from tests.canvases import create, delete, update
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")

Told = tuple[str, str | None]


async def told(house: House, conversation: str) -> list[Told]:
    """Each event of a conversation with its text, opened as a worker does."""
    sql = "SELECT payload::text AS payload FROM soma.outbox WHERE aggregatetype = 'agent.messages' "
    rows = await house.rows(sql + "AND payload->>'conversation' = $1 ORDER BY seq", conversation)
    keys = house.store("agent")[1]
    async with open_database(house.admin_url, keys, SystemClock()) as db, db.own(Caller.system("workers", "")) as tx:
        return [(json.loads(row["payload"])["type"], await events.opened(tx, row["payload"].encode())) for row in rows]


def somebody(house: House) -> Person:
    return house.person(name=f"writer-{uuid.uuid4()}")


async def test_all_that_is_written_in_a_conversation_is_in_the_log_in_order_and_sealed(house: House) -> None:
    person, secret = somebody(house), uuid.uuid4().hex
    made = await person.conversations.CreateConversation(
        wire.CreateConversationRequest(conversation=Conversation(title=f"a title {secret}")), metadata=person.metadata
    )
    await ask(person, f"a question {secret}", conversation=made.name)
    await person.conversations.UpdateConversation(
        wire.UpdateConversationRequest(
            conversation=Conversation(name=made.name, title=f"renamed {secret}"), update_mask=FieldMask(paths=["title"])
        ),
        metadata=person.metadata,
    )
    pane = await create(person, made.name, f"a pane {secret}")
    pane = await update(person, pane.name, pane.etag, text=f"another {secret}")
    await delete(person, pane.name)
    await person.conversations.DeleteConversation(
        wire.DeleteConversationRequest(name=made.name), metadata=person.metadata
    )

    assert await told(house, made.name) == [
        ("conversation.created", f"a title {secret}"),
        ("turn.asked", f"a question {secret}"),
        ("turn.answered", f"You said: a question {secret}"),
        ("conversation.updated", f"renamed {secret}"),
        ("pane.created", f"a pane {secret}"),
        ("pane.updated", f"another {secret}"),
        ("pane.deleted", None),
        ("conversation.deleted", None),
    ]
    assert not await house.rows("SELECT 1 FROM soma.outbox WHERE payload::text LIKE $1", f"%{secret}%")
    assert not await house.rows("SELECT 1 FROM soma.outbox WHERE payload::text LIKE $1", f"%{person.name}%")


async def test_the_panes_of_an_answer_are_sealed_with_the_key_of_the_person_who_asked(house: House) -> None:
    person = somebody(house)
    code = "print('the answer')\n" * 20
    accepted = (await ask(person, f"script:say\n```python\n{code}```\n"))[0].accepted
    panes = [event for event in await told(house, accepted.conversation) if event[0].startswith("pane.")]
    assert panes[0][0] == "pane.created"
    assert panes[-1][1] is not None and panes[-1][1].strip() == code.strip()


async def test_a_question_that_was_cancelled_is_told_once_with_what_was_said(house: House) -> None:
    person = somebody(house)
    turn, conversation, _ = await begin(person, "script:words=500 script:pace=10", words=3)
    ended = await person.chat.CancelTurn(CancelTurnRequest(name=turn), metadata=person.metadata)
    assert [event for event in await told(house, conversation) if event[0] == "turn.cancelled"] == [
        ("turn.cancelled", ended.answer)
    ]
    rows = await house.rows("SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", turn)
    assert [row["action"] for row in rows] == ["chat.asked", "turn.cancel_asked", "turn.cancelled"]


async def test_the_end_of_an_orphan_has_its_text_and_stands_among_its_persons_events(house: House) -> None:
    person, now = somebody(house), SystemClock().now()
    conversation = (await ask(person, "first"))[0].accepted.conversation
    [row] = await house.rows("SELECT subject FROM t_acme.conversations WHERE id = $1", conversation_id(conversation))
    caller = Caller("acme", row["subject"], frozenset({"member"}), frozenset())
    ids = conversation_id(conversation), new_id()
    said = [ChatEvent(sequence=1), ChatEvent(sequence=2, text=Text(delta="half an "))]
    async with open_database(*house.store("agent"), SystemClock(), connections=2) as db, db.upkeep(caller) as tx:
        await store.add_turn(tx, ids, "?", "slm", said[0], now, "nobody")
        await store.checkpoint(tx, ids, "nobody", "half an ", Decision(), said)
    turn = turn_name(*ids)
    await house.rows("UPDATE soma.leases SET expire_time = now() WHERE resource = $1", turn)
    await until_ended(person, turn)
    assert (await told(house, conversation))[-1] == ("turn.failed", "half an ")
    keys = await house.rows(
        "SELECT DISTINCT aggregateid FROM soma.outbox WHERE payload->>'conversation' = $1", conversation
    )
    assert len(keys) == 1
    [row] = await house.rows("SELECT body->>'subject' AS who FROM soma.audited WHERE body->>'resource' = $1", turn)
    assert row["who"] == "system:agent"


async def until_ended(person: Person, turn: str) -> None:
    async for _ in person.chat.WatchTurn(WatchTurnRequest(name=turn), metadata=person.metadata, timeout=15):
        pass


@pytest.mark.parametrize(("letters", "times"), [("q", 128 * 1024), ("é", 64 * 1024), ("\U0001f600", 32 * 1024)])
async def test_the_longest_question_is_in_the_log(house: House, letters: str, times: int) -> None:
    person, text = somebody(house), letters * times
    accepted = (await ask(person, f"script:words=1 {text}"[: len(text)]))[0].accepted
    [asked] = [event for event in await told(house, accepted.conversation) if event[0] == "turn.asked"]
    assert asked[1] == f"script:words=1 {text}"[: len(text)]


async def test_the_longest_pane_is_in_the_log(house: House) -> None:
    person, text = somebody(house), '\\"\n' * (256 * 1024 // 3)
    conversation = (await ask(person, "hello"))[0].accepted.conversation
    await create(person, conversation, text)
    assert (await told(house, conversation))[-1] == ("pane.created", text)


@pytest.mark.parametrize(("words", "whole"), [(20, True), (30, False)])
async def test_an_answer_that_no_event_holds_is_left_out_and_the_turn_is_done(
    house: House, words: int, whole: bool
) -> None:
    person = somebody(house)
    said = await ask(person, f"script:words={words} script:bytes=100000")
    accepted = said[0].accepted
    kept = await person.chat.GetTurn(GetTurnRequest(name=accepted.turn), metadata=person.metadata)
    assert said[-1].HasField("done")
    assert len(kept.answer) == words * 100_001 - 1
    [event] = [event for event in await told(house, accepted.conversation) if event[0] == "turn.answered"]
    assert event[1] == (kept.answer if whole else None)
    [row] = await house.rows(
        "SELECT body->>'leftOut' AS out, body->>'sizeBytes' AS size FROM soma.told "
        "WHERE type = 'turn.answered' AND body->>'turn' = $1", accepted.turn,
    )  # fmt: skip
    assert (row["out"], row["size"]) == (None if whole else "true", str(len(kept.answer)))
