"""The SDK against real rooms over mTLS: questions, refusals, tokens, repeats."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from soma_api.soma.agent.v1 import (
    CancelTurnRequest,
    ChatServiceStub,
    Conversation,
    ConversationServiceStub,
    CreateConversationRequest,
    GetConversationRequest,
    GetTurnRequest,
    HealthServiceStub,
    ListConversationsRequest,
    TurnState,
)
from soma_api.soma.agent.v1 import CheckHealthRequest as Health
from soma_api.soma.router.v1 import DecideRequest, RouterServiceStub
from soma_sdk import (
    Accepted,
    Conflict,
    Decision,
    Denied,
    Done,
    Event,
    Exists,
    Failed,
    Invalid,
    NotFound,
    Soma,
    Text,
    TooLate,
    Turn,
    Unauthenticated,
)
from tests.house import House
from tests.sdk.conftest import Connect

pytestmark = pytest.mark.asyncio(loop_scope="session")
LONG = "script:words=2000 script:pace=20"


async def all_of(turn: Turn) -> list[Event]:
    return [event async for event in turn]


def text_of(events: list[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, Text))


async def begun(turn: Turn) -> Turn:
    """The turn, when it has said something."""
    async for event in turn:
        if isinstance(event, Text):
            break
    return turn


async def test_a_question_is_answered_by_its_events_in_order(soma: Soma) -> None:
    turn = soma.chat("hello there")

    events = await all_of(turn)

    assert [type(event) for event in events[:2]] == [Accepted, Decision]
    assert {type(event) for event in events[2:-1]} == {Text}
    assert isinstance(events[-1], Done)
    assert text_of(events) == "You said: hello there"
    assert turn.sequence == len(events)


async def test_a_whole_answer_says_what_it_cost_and_why_this_model(soma: Soma) -> None:
    answer = await soma.ask("hello there", tier="premium")

    assert answer.text == "You said: hello there"
    assert answer.why
    assert (answer.decision.requested_tier, answer.done.finish_reason) == ("premium", "stop")
    assert answer.cost_microusd == answer.done.cost_microusd
    assert answer.turn.startswith(answer.conversation + "/turns/")


async def test_a_conversation_goes_on(soma: Soma) -> None:
    first = await soma.ask("one")

    second = await soma.ask("two", conversation=first.conversation)

    assert second.conversation == first.conversation
    assert second.turn != first.turn


async def test_a_second_question_while_one_runs_is_a_conflict_that_names_the_turn(soma: Soma) -> None:
    turn = await begun(soma.chat(LONG))

    with pytest.raises(Conflict) as refused:
        await soma.ask("two", conversation=turn.conversation)

    assert refused.value.reason == "TURN_RUNNING"
    assert refused.value.metadata == {"turn": turn.name}
    ended = await soma.stub(ChatServiceStub).cancel_turn(CancelTurnRequest(name=refused.value.metadata["turn"]))
    assert ended.state == TurnState.STATE_CANCELLED


async def test_a_cancelled_turn_ends_with_done(soma: Soma) -> None:
    turn = await begun(soma.chat(LONG))

    assert (await turn.cancel()).state == TurnState.STATE_CANCELLED

    last = (await all_of(turn))[-1]
    assert isinstance(last, Done)
    assert last.finish_reason == "cancelled"


async def test_a_turn_that_fails_raises_after_its_text(soma: Soma) -> None:
    said: list[Event] = []

    async def listen() -> None:
        async for event in soma.chat("script:words=20 script:cut=3"):
            said.append(event)

    with pytest.raises(Failed) as failed:
        await listen()

    assert text_of(said) == "word1 word2 word3"
    assert failed.value.reason == "PROVIDER_CUT"


async def test_the_same_request_id_gives_the_same_turn_from_its_first_event(soma: Soma) -> None:
    request_id = str(uuid.uuid4())
    first = soma.chat("hello", request_id=request_id)
    second = soma.chat("hello", request_id=request_id)

    assert text_of(await all_of(first)) == text_of(await all_of(second))
    assert first.name == second.name
    with pytest.raises(Exists, match="REQUEST_ID_REUSED"):
        await all_of(soma.chat("another", request_id=request_id))


async def test_a_turn_can_be_watched_from_where_someone_stopped(soma: Soma) -> None:
    turn = await begun(soma.chat("one two three four"))
    stopped_at, heard = turn.sequence, await all_of(turn)

    assert await all_of(soma.watch(turn.name, after=stopped_at)) == heard
    assert await all_of(soma.watch(turn.name, after=turn.sequence)) == []
    with pytest.raises(Invalid, match="SEQUENCE_UNKNOWN"):
        await all_of(soma.watch(turn.name, after=turn.sequence + 1))


async def test_what_is_anothers_is_not_found(soma: Soma, house: House, connect: Connect) -> None:
    answer = await soma.ask("hello")

    async with connect(token=house.token("acme", "somebody-else")) as other:
        with pytest.raises(NotFound, match="CONVERSATION_UNKNOWN"):
            await other.stub(ConversationServiceStub).get_conversation(GetConversationRequest(name=answer.conversation))
        with pytest.raises(NotFound, match="TURN_UNKNOWN"):
            await all_of(other.watch(answer.turn))


async def test_an_empty_question_is_refused_in_words(soma: Soma) -> None:
    with pytest.raises(Invalid, match="Write a question") as refused:
        await soma.ask("")

    assert refused.value.reason == "TEXT_EMPTY"


async def test_an_expired_token_is_renewed_once_for_all_calls(house: House, connect: Connect) -> None:
    given: list[str] = []

    def source() -> str:
        given.append(house.token("acme", ttl_s=600 if given else -3600))
        return given[-1]

    async with connect(token=source) as soma:
        conversations = soma.stub(ConversationServiceStub)
        await asyncio.gather(
            soma.ask("hello"), *(conversations.list_conversations(ListConversationsRequest()) for _ in range(20))
        )

    assert len(given) == 2


async def test_a_token_that_stays_refused_is_told_and_its_source_asked_once_more(
    house: House, connect: Connect
) -> None:
    given: list[str] = []

    async def source() -> str:
        given.append(house.token("acme", ttl_s=-3600 - len(given)))
        return given[-1]

    async with connect(token=source) as soma:
        with pytest.raises(Unauthenticated, match="TOKEN_REFUSED"):
            await soma.ask("hello")
        assert len(given) == 2


async def test_a_token_given_as_text_is_refused_when_it_has_expired(house: House, connect: Connect) -> None:
    async with connect(token=house.token("acme", ttl_s=-3600)) as soma:
        with pytest.raises(Unauthenticated, match="TOKEN_REFUSED"):
            await soma.ask("hello")
        with pytest.raises(Unauthenticated, match="TOKEN_REFUSED"):
            await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest())


async def test_a_role_that_may_not_call_is_denied(house: House, connect: Connect) -> None:
    async with connect(token=house.token("acme", roles=("nobody",))) as soma:
        with pytest.raises(Denied, match="ROLE_REFUSED"):
            await soma.ask("hello")


async def test_what_needs_no_token_is_answered_without_one(house: House, svid: str) -> None:
    address = house.environment["agent"]["SOMA_LISTEN"]
    async with Soma.connect(address, svid=svid, token=None, server_name="agent.soma.local") as soma:
        assert (await soma.stub(HealthServiceStub).check_health(Health())).status == "ok"


async def test_two_writes_of_one_request_are_two_and_the_request_is_left_as_it_was(soma: Soma) -> None:
    conversations = soma.stub(ConversationServiceStub)
    request = CreateConversationRequest(conversation=Conversation(title="mine"))

    first, second = [await conversations.create_conversation(request) for _ in range(2)]

    assert first.name != second.name
    assert request.request_id is None


async def test_a_write_with_a_request_id_of_the_callers_is_made_once(soma: Soma) -> None:
    conversations = soma.stub(ConversationServiceStub)
    request = CreateConversationRequest(request_id=str(uuid.uuid4()))

    first, second = [await conversations.create_conversation(request) for _ in range(2)]

    assert first == second


async def test_a_call_ends_at_its_deadline(soma: Soma) -> None:
    with pytest.raises(TooLate, match="DEADLINE_EXCEEDED"):
        await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest(), timeout=0.000_01)


async def test_a_service_that_is_not_there_is_not_found(soma: Soma) -> None:
    with pytest.raises(NotFound):
        await soma.stub(RouterServiceStub).decide(DecideRequest())


async def test_who_stops_listening_leaves_the_turn_running(soma: Soma) -> None:
    turn = await begun(soma.chat("script:words=30 script:pace=10"))

    await turn.aclose()

    assert text_of(await all_of(soma.watch(turn.name))).endswith("word30")
    kept = await soma.stub(ChatServiceStub).get_turn(GetTurnRequest(name=turn.name))
    assert kept.state == TurnState.STATE_DONE


async def test_a_caller_that_is_cancelled_in_mid_answer_stops_at_once(soma: Soma) -> None:
    turn = soma.chat(LONG)
    listening = asyncio.create_task(all_of(turn))
    while not turn.name:
        await asyncio.sleep(0.01)

    listening.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await listening

    await soma.stub(ChatServiceStub).cancel_turn(CancelTurnRequest(name=turn.name))
