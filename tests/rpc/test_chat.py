"""Chat over a real socket: the agent, the router, Postgres and Valkey, with the scripted model."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from grpc import StatusCode

from services.common.testing import refused
from services.local.ports import free_port
from soma.agent.v1 import chat_service_pb2 as wire
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.agent.v1.conversation_pb2 import Turn
from soma.agent.v1.health_service_pb2 import CheckHealthRequest
from tests.asking import ask, begin, ended, kinds, stream, text_of, watch, watching
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def person(house: House) -> Person:
    return house.person()


async def test_an_answer_begins_with_accepted_and_ends_with_done_without_gaps(person: Person) -> None:
    events = await ask(person, "one two three")

    assert kinds(events)[:2] == ["accepted", "decision"]
    assert kinds(events)[-1] == "done"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == "You said: one two three"
    assert events[-1].done.finish_reason == "stop"
    assert events[-1].done.usage.output_tokens > 0


async def test_a_turn_is_written_down_with_its_events_and_its_audit_rows(house: House, person: Person) -> None:
    turn = (await ask(person, "remember this"))[0].accepted.turn
    await house.until_settled(turn)

    kept = await person.chat.GetTurn(wire.GetTurnRequest(name=turn), metadata=person.metadata)
    told = await house.rows("SELECT type, body FROM soma.told WHERE body->>'turn' = $1 ORDER BY id", turn)
    audit = await house.rows("SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", turn)
    decided = f"decisions/{kept.decision.id}"
    routing = await house.rows("SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", decided)

    assert (kept.state, kept.answer) == (Turn.STATE_DONE, "You said: remember this")
    assert [row["type"] for row in told] == ["turn.asked", "routing.decided", "routing.settled", "turn.answered"]
    assert [row["action"] for row in audit] == ["chat.asked", "turn.answered"]
    assert [row["action"] for row in routing] == ["routing.decided"]
    assert not any("remember" in row["body"] for row in told), "what people write is in no event"
    assert not await house.rows("SELECT 1 FROM soma.leases WHERE resource = $1", turn)


async def test_who_hangs_up_misses_nothing(person: Person) -> None:
    turn, _, seen = await begin(person, "script:words=40 script:pace=10", words=3)

    rest = await watch(person, turn, after=seen[-1].sequence)

    assert [event.sequence for event in seen + rest] == list(range(1, len(seen) + len(rest) + 1))
    assert text_of(seen + rest) == " ".join(f"word{n}" for n in range(1, 41))


async def test_all_who_watch_see_the_same_events(person: Person) -> None:
    turn, _, _ = await begin(person, "script:words=30 script:pace=10")

    live = await asyncio.gather(watch(person, turn), watch(person, turn), watch(person, turn, after=2))
    again = await watch(person, turn)

    assert live[0] == live[1] == again
    assert live[2] == again[2:]


async def test_after_the_last_event_of_an_ended_turn_the_stream_is_empty(person: Person) -> None:
    events = await ask(person, "short")
    turn = events[0].accepted.turn

    assert await watch(person, turn, after=len(events)) == []
    with refused(StatusCode.INVALID_ARGUMENT, "SEQUENCE_UNKNOWN"):
        await watch(person, turn, after=len(events) + 1)


async def test_who_watches_a_silent_turn_is_answered_at_once(person: Person) -> None:
    turn, _, seen = await begin(person, "script:hang=1 script:words=9", words=1)

    async with asyncio.timeout(5):
        first = await anext(watching(person, turn, seen[-1].sequence))
    await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)

    assert first.HasField("heartbeat")
    assert not first.HasField("sequence")


async def test_beyond_the_newest_event_of_a_running_turn_there_is_nothing_to_watch(person: Person) -> None:
    turn, _, _ = await begin(person, "script:words=20 script:pace=20")

    with refused(StatusCode.INVALID_ARGUMENT, "SEQUENCE_UNKNOWN"):
        await watch(person, turn, after=500)

    await watch(person, turn)


async def test_a_repeated_request_gives_the_same_turn_from_its_first_event(house: House, person: Person) -> None:
    id = str(uuid.uuid4())

    first = await ask(person, "once", request_id=id)
    again = await ask(person, "once", request_id=id)

    assert first == again
    turns = await house.rows("SELECT 1 FROM t_acme.turns WHERE question = 'once'")
    assert len(turns) == 1


async def test_repeats_at_the_same_moment_are_one_turn(person: Person) -> None:
    id = str(uuid.uuid4())

    streams = await asyncio.gather(*(ask(person, "script:words=5 script:pace=20", request_id=id) for _ in range(6)))

    assert len({events[0].accepted.turn for events in streams}) == 1
    assert all(events == streams[0] for events in streams)


async def test_another_request_under_the_same_id_is_refused(person: Person) -> None:
    id = str(uuid.uuid4())
    await ask(person, "first", request_id=id)

    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        await ask(person, "second", request_id=id)


async def test_a_second_question_waits_until_the_first_is_answered(person: Person) -> None:
    turn, conversation, _ = await begin(person, "script:words=2000 script:pace=20")

    with refused(StatusCode.ABORTED, "TURN_RUNNING") as refusals:
        await ask(person, "and now?", conversation=conversation)
    assert refusals[0].metadata["turn"] == turn

    await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)
    assert kinds(await ask(person, "and now?", conversation=conversation))[-1] == "done"


async def test_a_cancelled_turn_keeps_its_text_and_says_done(person: Person) -> None:
    turn, _, seen = await begin(person, "script:words=500 script:pace=20", words=3)
    watcher = asyncio.create_task(watch(person, turn))

    cancelled = await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)
    again = await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)

    assert cancelled.state == Turn.STATE_CANCELLED
    assert cancelled.answer.startswith(text_of(seen))
    assert again == cancelled
    assert (await watcher)[-1].done.finish_reason == "cancelled"


async def test_deleting_a_conversation_ends_its_turn_first(house: House, person: Person) -> None:
    turn, conversation, _ = await begin(person, "script:words=500 script:pace=20")
    watcher = asyncio.create_task(watch(person, turn))

    await person.conversations.DeleteConversation(
        conversation_wire.DeleteConversationRequest(name=conversation), metadata=person.metadata
    )

    assert kinds(await watcher)[-1] == "done"
    with refused(StatusCode.NOT_FOUND, "TURN_UNKNOWN"):
        await watch(person, turn)
    assert not await house.rows("SELECT 1 FROM soma.leases WHERE resource = $1", turn)


@pytest.mark.parametrize(
    ("tenant", "name", "roles"),
    [("globex", "member", ("member",)), ("acme", "other", ("member",)), ("acme", "admin", ("admin",))],
)
async def test_what_is_not_yours_is_not_found(
    house: House, person: Person, tenant: str, name: str, roles: tuple[str, ...]
) -> None:
    turn, conversation, _ = await begin(person, "script:words=30 script:pace=10")
    stranger = house.person(tenant, name, roles)

    with refused(StatusCode.NOT_FOUND, "TURN_UNKNOWN"):
        await watch(stranger, turn)
    with refused(StatusCode.NOT_FOUND, "TURN_UNKNOWN"):
        await stranger.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=stranger.metadata)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await ask(stranger, "mine now", conversation=conversation)
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await stranger.chat.ListTurns(wire.ListTurnsRequest(parent=conversation), metadata=stranger.metadata)

    assert (await ended(person, turn)).state == Turn.STATE_DONE


@pytest.mark.parametrize("name", ["", "x", "conversations/x/turns/y", "conversations/../turns/*", "turns/1"])
async def test_a_malformed_name_is_simply_not_found(person: Person, name: str) -> None:
    with refused(StatusCode.NOT_FOUND, "TURN_UNKNOWN"):
        await person.chat.GetTurn(wire.GetTurnRequest(name=name), metadata=person.metadata)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": ""}, "TEXT_EMPTY"),
        ({"text": "x" * (128 * 1024 + 1)}, "TEXT_TOO_LONG"),
        ({"text": "é" * (64 * 1024) + "x"}, "TEXT_TOO_LONG"),
        ({"text": "x", "tier": "gold"}, "REQUEST_INVALID"),
        ({"text": "x", "request_id": "7"}, "REQUEST_INVALID"),
    ],
)
async def test_bad_questions_are_refused_with_a_reason(person: Person, fields: dict[str, str], reason: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, reason):
        await ask(person, **fields)


async def test_the_longest_question_is_kept_as_given(person: Person) -> None:
    text = "é" * (64 * 1024)
    turn = (await ask(person, text))[0].accepted.turn

    assert (await ended(person, turn)).text == text


async def test_bytes_that_are_no_message_are_refused_not_a_fault(house: House, person: Person) -> None:
    call: Any = house.channel("agent").unary_unary("/soma.agent.v1.ChatService/GetTurn")

    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED"):
        await call(b"\x0a\x02\xff\xfe", metadata=person.metadata)


async def test_a_provider_that_breaks_off_leaves_the_text_and_says_provider_cut(person: Person) -> None:
    events = await ask(person, "script:words=10 script:cut=4")

    assert kinds(events)[-1] == "error"
    assert events[-1].error.reason == "PROVIDER_CUT"
    kept = await ended(person, events[0].accepted.turn)
    assert (kept.state, kept.answer) == (Turn.STATE_FAILED, "word1 word2 word3 word4")


async def test_the_next_tier_answers_when_nothing_in_the_first_does(person: Person) -> None:
    events = await ask(person, "hello script:fail=standard", tier="standard")

    decisions = [event.decision for event in events if event.HasField("decision")]
    assert kinds(events)[-1] == "done"
    assert decisions[0].tier == "standard"
    assert decisions[-1].tier == "slm"
    assert any(c.closed for c in decisions[-1].candidates)


async def test_the_conversation_so_far_is_told_to_the_model(house: House, person: Person) -> None:
    conversation = (await ask(person, "my name is Ada"))[0].accepted.conversation
    short = (await ask(person, "and?", conversation=conversation))[-1].done.usage.input_tokens
    alone = (await ask(person, "and?"))[-1].done.usage.input_tokens

    assert short > alone


async def test_a_turn_once_admitted_outlives_its_token(house: House) -> None:
    person = house.person(ttl_s=2)

    events = await ask(person, "script:wait=2500 still here")

    assert kinds(events)[-1] == "done"
    with refused(StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED"):
        deadline = asyncio.get_running_loop().time() + 10
        while asyncio.get_running_loop().time() < deadline:
            await person.chat.GetTurn(wire.GetTurnRequest(name=events[0].accepted.turn), metadata=person.metadata)
            await asyncio.sleep(0.2)


async def test_turns_are_listed_newest_first_in_pages(person: Person) -> None:
    conversation = (await ask(person, "q0"))[0].accepted.conversation
    for n in range(1, 5):
        await ask(person, f"q{n}", conversation=conversation)

    texts, token = [], ""
    while True:
        page = await person.chat.ListTurns(
            wire.ListTurnsRequest(parent=conversation, page_size=2, page_token=token), metadata=person.metadata
        )
        texts += [turn.text for turn in page.turns]
        token = page.next_page_token
        if not token:
            break

    assert texts == ["q4", "q3", "q2", "q1", "q0"]


async def test_a_page_of_long_turns_stays_below_half_a_mebibyte(person: Person) -> None:
    conversation = (await ask(person, "x" * 120_000))[0].accepted.conversation
    for _ in range(3):
        await ask(person, "y" * 120_000, conversation=conversation)

    page = await person.chat.ListTurns(wire.ListTurnsRequest(parent=conversation), metadata=person.metadata)

    assert 1 <= len(page.turns) < 4
    assert page.ByteSize() < 600 * 1024
    assert page.next_page_token


@pytest.mark.parametrize("token", ["x", "AAAA", "!!!!", "A" * 27])
async def test_a_wrong_page_token_is_refused(person: Person, token: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        await person.conversations.ListConversations(
            conversation_wire.ListConversationsRequest(page_token=token), metadata=person.metadata
        )


async def test_one_trace_goes_from_the_caller_through_every_event(house: House, person: Person) -> None:
    trace = uuid.uuid4().hex
    header = (("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),)
    request = wire.ChatRequest(text="traced")
    events = [event async for event in person.chat.Chat(request, metadata=person.metadata + header)]
    turn = events[0].accepted.turn
    await house.until_settled(turn)

    told = await house.rows("SELECT type, traceparent FROM soma.told WHERE body->>'turn' = $1", turn)
    audit = await house.rows("SELECT body FROM soma.audited WHERE body->>'resource' = $1", turn)

    assert len(told) == 4
    assert {row["traceparent"].split("-")[1] for row in told} == {trace}
    assert {json.loads(row["body"])["trace"] for row in audit} == {trace}


async def test_a_refused_question_is_audited(house: House, person: Person) -> None:
    trace = uuid.uuid4().hex
    metadata = (*person.metadata, ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
    nowhere = wire.ChatRequest(text="hello", conversation=f"conversations/{uuid.uuid4()}")

    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        async for _ in person.chat.Chat(nowhere, metadata=metadata):
            pass

    told = await house.rows("SELECT body->>'outcome' AS outcome FROM soma.audited WHERE body->>'trace' = $1", trace)
    assert [row["outcome"] for row in told] == ["refused"]


async def test_streams_of_one_person_do_not_wait_for_each_other(person: Person) -> None:
    slow = stream(person, "script:words=500 script:pace=20")
    turn = (await anext(slow)).accepted.turn
    quick = await ask(person, "quick")

    assert kinds(quick)[-1] == "done"
    cancelled = await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)
    assert cancelled.state == Turn.STATE_CANCELLED, "it was still running"
    assert kinds([event async for event in slow])[-1] == "done"


async def test_watching_while_it_streams_gives_text_before_the_end(person: Person) -> None:
    events = stream(person, "script:words=500 script:pace=30")
    first = [await anext(events), await anext(events), await anext(events)]
    turn = first[0].accepted.turn
    early = await anext(watching(person, turn, after=2))

    assert early.HasField("text")
    kept = await person.chat.GetTurn(wire.GetTurnRequest(name=turn), metadata=person.metadata)
    assert kept.state == Turn.STATE_RUNNING
    await person.chat.CancelTurn(wire.CancelTurnRequest(name=turn), metadata=person.metadata)
    assert [event async for event in events][-1].HasField("done")


async def test_a_watch_beyond_what_is_kept_waits_for_it_where_valkey_is_away(house: House, person: Person) -> None:
    room = "agent3"
    elsewhere = {"SOMA_LISTEN": f"127.0.0.1:{free_port()}", "SOMA_CACHE_URL": "redis://127.0.0.1:9/0"}
    house.environment[room] = house.environment["agent"] | elsewhere
    await house.start(room)
    try:
        turn, _, seen = await begin(person, "script:words=150 script:pace=10", words=50)
        after = seen[-1].sequence
        rest = await watch(house.person(at=room), turn, after)
    finally:
        await house.end(room)

    assert [event.sequence for event in rest] == list(range(after + 1, after + 1 + len(rest)))
    assert rest[-1].HasField("done")


async def test_healthz_says_that_a_chat_can_be_answered(house: House) -> None:
    answer = await house.health().CheckHealth(CheckHealthRequest(), timeout=5)

    assert answer.status == "ok"
