"""The router over a real socket: real Postgres, real mTLS, a provider that speaks OpenAI's wire as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.common.testing import refused
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import DecideRequest, GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import GenerateEvent, Message, Outcome
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider, said
from tests.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = """
[[provider]]
name = "acme"
base_url = "{url}"
first_text_s = 8
idle_s = 5
running = 2
queued = 2
  [[provider.model]]
  name = "gpt-x"
  tier = "premium"
  price_in = 1_000_000
  price_out = 2_000_000
  window = 4000
  latency_ms = 1
"""


class Asker:
    """Asks the router as the agent does."""

    def __init__(self, house: House, tenant: str = "acme") -> None:
        self.house, self.person = house, house.person(tenant)
        self.stub = RouterServiceStub(house.channel("router", "agent"))

    def call(self, text: str = "Hello", **fields: Any) -> Any:
        fields = {"tier": "premium", "turn": "conversations/c/turns/t"} | fields
        messages = fields.pop("messages", [Message(role="user", text=text)])
        request = GenerateRequest(messages=messages, **fields)
        return self.stub.Generate(request, metadata=self.person.metadata, timeout=30)

    async def generate(self, text: str = "Hello", **fields: Any) -> list[GenerateEvent]:
        return [event async for event in self.call(text, **fields)]

    async def decide(self, tier: str = "premium") -> Decision:
        request = DecideRequest(text="Hello", tier=tier)
        decision: Decision = await self.person.router.Decide(request, metadata=self.person.metadata, timeout=10)
        return decision

    async def row(self, decision: Decision, tenant: str = "acme") -> dict[str, Any]:
        rows = await self.house.rows(f"SELECT * FROM t_{tenant}.decisions WHERE id = $1", decision.id)
        return dict(rows[0])

    async def settled(self, decision: Decision) -> dict[str, Any]:
        """The row, when it has been settled."""
        async with asyncio.timeout(20):
            while (row := await self.row(decision))["settle_time"] is None:
                await asyncio.sleep(0.05)
        return row

    async def until(self, states: list[str]) -> None:
        """Until the router sees the provider's models so: "" for open, else why not."""
        async with asyncio.timeout(30):
            while [c.closed for c in (await self.decide()).candidates if c.provider == "acme"] != states:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session")
async def acme(house: House) -> AsyncIterator[FakeProvider]:
    """The provider, added while the router runs, and taken away again."""
    file, key = house.folder / "providers.toml", house.folder / "secrets" / "acme"
    async with open_fake_provider() as provider:
        key.write_text("sk-1")
        file.write_text(PROVIDERS.format(url=provider.base_url))
        await Asker(house).until([""])
        yield provider
        file.unlink()
        key.unlink()
        await Asker(house).until([])


@pytest.fixture
def asker(house: House) -> Asker:
    return Asker(house)


def text_of(events: list[GenerateEvent]) -> str:
    return "".join(event.text.delta for event in events)


def kinds(events: list[GenerateEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def outcome_of(events: list[GenerateEvent]) -> Outcome:
    assert kinds(events)[-1] == "outcome"
    assert kinds(events).count("outcome") == 1
    return events[-1].outcome


async def test_an_answer_is_a_decision_then_text_then_one_outcome(asker: Asker, acme: FakeProvider) -> None:
    events = await asker.generate()
    assert kinds(events)[0] == "decision"
    assert set(kinds(events)[1:-1]) == {"text"}
    assert text_of(events) == said(Behaviour())
    outcome = outcome_of(events)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.usage.estimated) == (11, 8, False)
    assert (outcome.cost_microusd, outcome.finish_reason) == (11 + 16, "stop")
    assert outcome.first_token_ms > 0


async def test_row_events_and_audit_say_the_same(asker: Asker, acme: FakeProvider) -> None:
    decision = (await asker.generate())[0].decision
    row = await asker.settled(decision)
    events = await asker.house.rows("SELECT type FROM soma.told WHERE body->>'decision' = $1 ORDER BY id", decision.id)
    audit = await asker.house.rows(
        "SELECT action FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id", f"decisions/{decision.id}"
    )
    assert (row["provider"], row["model"], row["cost_microusd"], row["finish_reason"]) == ("acme", "gpt-x", 27, "stop")
    assert Decision.FromString(row["decision"]) == decision
    assert [event["type"] for event in events] == ["routing.decided", "routing.settled"]
    assert [one["action"] for one in audit] == ["routing.decided"]


async def test_decide_says_what_generate_would_choose_and_writes_nothing(asker: Asker, acme: FakeProvider) -> None:
    before = await asker.house.rows("SELECT count(*) FROM t_acme.decisions")
    assert (await asker.decide()).model == "gpt-x"
    assert await asker.house.rows("SELECT count(*) FROM t_acme.decisions") == before
    assert acme.asked == 0


FAULTS = {
    "refuses": Behaviour(status=500),
    "refuses the key": Behaviour(status=401),
    "sends rubbish": Behaviour(rubbish="html"),
    "hangs": Behaviour(hang_after=0),
    "breaks the connection": Behaviour(cut_after=0),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_provider_that_fails_before_the_text_is_left_for_the_next(
    asker: Asker, acme: FakeProvider, fault: str
) -> None:
    acme.behaviour = FAULTS[fault]
    events = await asker.generate("script:words=2")
    assert kinds(events)[:2] == ["decision", "decision"]
    first, second = events[0].decision, events[1].decision
    assert (first.provider, second.provider, first.id) == ("acme", "scripted", second.id)
    assert "gpt-x did not" in second.why
    assert text_of(events) == "word1 word2"
    assert (await asker.settled(first))["provider"] == "scripted"
    acme.behaviour = Behaviour()
    await asker.generate()  # a success closes the circuit again


async def test_a_cut_stream_keeps_its_text_and_its_price(asker: Asker, acme: FakeProvider) -> None:
    acme.behaviour = Behaviour(cut_after=3, pace_ms=20)
    events = await asker.generate()
    outcome = outcome_of(events)
    assert text_of(events) == "word1 word2 word3"
    assert (outcome.failure.reason, outcome.failure.retryable, outcome.finish_reason) == ("PROVIDER_CUT", True, "")
    assert outcome.usage.estimated
    assert outcome.cost_microusd == outcome.usage.input_tokens + 2 * outcome.usage.output_tokens > 0
    row = await asker.settled(events[0].decision)
    assert (row["reason"], row["cost_microusd"], row["estimated"]) == ("PROVIDER_CUT", outcome.cost_microusd, True)


async def test_a_model_that_fails_again_and_again_is_left_alone(asker: Asker, acme: FakeProvider) -> None:
    acme.behaviour = Behaviour(status=500)
    for _ in range(3):
        await asker.generate("script:words=1")
    decision = await asker.decide()
    assert decision.provider == "scripted"
    closed = next(c.closed for c in decision.candidates if c.provider == "acme")
    assert closed.startswith("It failed 3 times in a row")
    asked = acme.asked
    await asker.generate("script:words=1")
    assert acme.asked == asked


async def test_when_every_model_fails_the_outcome_says_so_and_costs_nothing(asker: Asker) -> None:
    outcome = outcome_of(await asker.generate("script:fail"))
    assert (outcome.failure.reason, outcome.failure.retryable) == ("PROVIDER_FAILED", True)
    assert outcome.cost_microusd == 0


async def test_who_hangs_up_ends_the_providers_stream_and_pays_for_what_was_said(
    asker: Asker, acme: FakeProvider
) -> None:
    acme.behaviour = Behaviour(words=10_000, pace_ms=5)
    call = asker.call()
    decision, text = None, False
    async for event in call:
        decision = event.decision if event.HasField("decision") else decision
        text = text or event.HasField("text")
        if text:
            break
    call.cancel()
    assert decision is not None
    row = await asker.settled(decision)
    assert row["finish_reason"] == "cancelled"
    assert row["output_tokens"] > 0
    assert row["cost_microusd"] > 0
    async with asyncio.timeout(20):
        while not acme.hung_up:
            await asyncio.sleep(0.01)


async def test_calls_beyond_the_queue_go_to_the_next_model_and_those_within_wait(
    asker: Asker, acme: FakeProvider
) -> None:
    acme.behaviour = Behaviour(words=4, pace_ms=100)
    answers = await asyncio.gather(*(asker.generate("script:words=1") for _ in range(6)))
    providers = [events[0].decision.provider for events in answers]
    assert sorted(providers) == ["acme"] * 4 + ["scripted"] * 2
    assert all(outcome_of(events).finish_reason == "stop" for events in answers)


async def test_the_conversation_is_cut_to_the_window_of_the_chosen_model(asker: Asker, acme: FakeProvider) -> None:
    messages = [Message(role="system", text="be kind")]
    for n in range(50):
        messages += [Message(role="user", text=f"{n} {'x' * 600}"), Message(role="assistant", text="y" * 600)]
    messages.append(Message(role="user", text="and now?"))
    await asker.generate(messages=messages)
    sent: Any = acme.last["messages"]
    assert (sent[0]["content"], sent[-1]["content"]) == ("be kind", "and now?")
    assert len(sent) < 20
    assert sent[1]["role"] == "user"


async def test_a_message_that_fits_no_window_is_refused_before_the_stream(asker: Asker) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, reason="CONTEXT_TOO_LONG"):
        await asker.generate("1" * 200_000)


async def test_a_provider_that_has_too_much_to_do_is_left_alone_for_as_long_as_it_says(
    asker: Asker, acme: FakeProvider
) -> None:
    acme.behaviour = Behaviour(status=429, retry_after="9")
    events = await asker.generate("script:words=1")
    assert events[1].decision.provider == "scripted"
    closed = next(c.closed for c in (await asker.decide()).candidates if c.provider == "acme")
    assert closed.startswith("Its provider asked for a pause")
    await asker.until([""])


async def test_a_settlement_waits_for_a_database_that_comes_back(asker: Asker, acme: FakeProvider) -> None:
    acme.behaviour = Behaviour(words=20, pace_ms=50)
    call = aiter(asker.call())
    events = [await anext(call) for _ in range(2)]
    await shut(asker.house, "NOLOGIN")
    try:
        async for event in call:
            events.append(event)
        assert text_of(events) == said(acme.behaviour)
        assert outcome_of(events).finish_reason == "stop"
        with refused(StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE"):
            await asker.generate()
    finally:
        await shut(asker.house, "LOGIN")
    row = await asker.settled(events[0].decision)
    assert (row["finish_reason"], row["output_tokens"]) == ("stop", 20)


async def shut(house: House, how: str) -> None:
    """Bar the router from Postgres, or let it in again."""
    await house.rows(f"ALTER ROLE soma_router {how}")
    await house.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'soma_router'")


async def test_a_room_that_is_told_to_stop_ends_its_streams_in_band(house: House, asker: Asker) -> None:
    call = aiter(asker.call("script:words=3000 script:pace=20", tier="standard"))
    events = [await anext(call) for _ in range(5)]
    await house.end("router")
    try:
        async for event in call:
            events.append(event)
    finally:
        await house.start("router")
    assert outcome_of(events).failure.reason == "INTERRUPTED"
    assert text_of(events).startswith("word1 word2 word3")
    row = await asker.settled(events[0].decision)
    assert row["reason"] == "INTERRUPTED"
