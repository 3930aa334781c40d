"""Answers that nobody waits for in pieces, over a real socket: what is asked, what is learned, what is paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider, said
from tests.house import House
from tests.rpc.test_router import PROVIDERS, Asker, kinds, outcome_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

LATENCY_MS = 777


class Calm(Asker):
    """Asks for a provider of its own, of which nothing was learned before."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.provider = f"calm-{uuid4().hex[:8]}"

    async def latency_ms(self) -> int:
        """What the next decision would go by."""
        candidates = (await self.decide()).candidates
        return next((c.latency_ms for c in candidates if c.provider == self.provider), 0)

    async def until_there(self, is_there: bool) -> None:
        async with asyncio.timeout(10):
            while bool(await self.latency_ms()) is not is_there:
                await asyncio.sleep(0.05)


@pytest.fixture
def calm(house: House) -> Calm:
    return Calm(house)


@pytest_asyncio.fixture(loop_scope="session")
async def fake(house: House, calm: Calm) -> AsyncIterator[FakeProvider]:
    file, key = house.folder / "providers.toml", house.folder / "secrets" / calm.provider
    async with open_fake_provider() as provider:
        key.write_text("sk-1")
        told = PROVIDERS.format(url=provider.base_url).replace('"acme"', f'"{calm.provider}"')
        told = told.replace("first_text_s = 8\n", "first_text_s = 2\n")
        file.write_text(told.replace("latency_ms = 1\n", f"latency_ms = {LATENCY_MS}\n"))
        await calm.until_there(True)
        yield provider
        file.unlink()
        key.unlink()
        await calm.until_there(False)


async def test_it_is_the_same_answer_in_one_piece(calm: Calm, fake: FakeProvider) -> None:
    events = await calm.generate(whole=True)
    assert kinds(events) == ["decision", "text", "outcome"]
    assert text_of(events) == said(Behaviour())
    outcome = outcome_of(events)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.usage.estimated) == (11, 8, False)
    assert (outcome.cost_microusd, outcome.finish_reason) == (11 + 16, "stop")
    row = await calm.settled(events[0].decision)
    assert (row["cost_microusd"], row["finish_reason"], row["first_token_ms"]) == (27, "stop", 0)
    assert fake.last["stream"] is False


async def test_it_teaches_nothing_of_first_texts_and_a_stream_does(calm: Calm, fake: FakeProvider) -> None:
    fake.behaviour = Behaviour(wait_ms=50)
    for _ in range(3):
        assert outcome_of(await calm.generate(whole=True)).first_token_ms == 0
    assert await calm.latency_ms() == LATENCY_MS
    assert outcome_of(await calm.generate()).first_token_ms > 0
    assert await calm.latency_ms() not in (0, LATENCY_MS)


async def test_cut_in_its_middle_it_has_said_nothing_and_another_model_takes_over(
    calm: Calm, fake: FakeProvider
) -> None:
    fake.behaviour = Behaviour(cut_after=3)
    events = await calm.generate("script:words=2", whole=True)
    assert kinds(events)[:2] == ["decision", "decision"]
    assert text_of(events) == "word1 word2"
    assert (await calm.settled(events[0].decision))["provider"] == "scripted"


async def test_a_provider_may_be_slower_with_all_of_it_than_with_its_first_text(calm: Calm, fake: FakeProvider) -> None:
    fake.behaviour = Behaviour(wait_ms=2500)  # more than first_text_s: time must really pass
    events = await calm.generate("script:words=2", whole=True)
    assert events[0].decision.provider == calm.provider
    assert kinds(events) == ["decision", "text", "outcome"]


async def test_a_model_that_streams_anyway_is_understood_and_learned_from(calm: Calm, fake: FakeProvider) -> None:
    events = await calm.generate("script:words=3", tier="standard", whole=True)
    assert events[0].decision.provider == "scripted"
    assert outcome_of(events).first_token_ms > 0


async def test_a_provider_that_only_streams_is_asked_for_a_stream(house: House, calm: Calm, fake: FakeProvider) -> None:
    file = house.folder / "providers.toml"
    file.write_text(file.read_text().replace("running = 2\n", "running = 2\nwhole = false\n"))
    async with asyncio.timeout(10):
        while outcome_of(await calm.generate(whole=True)).first_token_ms == 0:
            await asyncio.sleep(0.1)
    assert fake.last["stream"] is True


async def test_who_hangs_up_ends_the_providers_work(calm: Calm, fake: FakeProvider) -> None:
    fake.behaviour = Behaviour(wait_ms=60_000)
    call = calm.call(whole=True)
    decision = (await anext(aiter(call))).decision
    async with asyncio.timeout(20):
        while not fake.asked:
            await asyncio.sleep(0.01)
    call.cancel()
    row = await calm.settled(decision)
    assert (row["finish_reason"], row["output_tokens"], row["estimated"]) == ("cancelled", 0, True)
    assert row["input_tokens"] > 0
    async with asyncio.timeout(20):
        while not fake.hung_up:
            await asyncio.sleep(0.01)
