"""How a call goes on when its model fails and the books are asked for another: with doubles of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import Exhausted, Refusal, Unavailable
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.router.admit import Admitted
from services.router.asked import Asked
from services.router.decide import Shape
from services.router.generate import Router
from services.router.live import Live
from services.router.models import Broken, End, Piece, Prompt
from services.router.offers import Offer, Price, Provider
from services.router.window import Size
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent, Message, Outcome
from tests.booking import call_of

OFFER = Offer(Provider("acme-ai", "openai"), "gpt-x", "standard", Price(1, 1), 8192, 1024, 100)
ASKED = Asked(Shape(), Size((1,), 0), 0, "Hello")
REQUEST = GenerateRequest(messages=[Message(role="user", text="Hello")])


def opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


class Failing:
    """A model that breaks before its first word, always."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        raise Broken("acme-ai fell silent.")
        yield ""


class Silent:
    """A model that never says anything."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        await asyncio.Event().wait()
        yield ""


class Speaking:
    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        yield "Hello."
        yield End("stop")


@dataclass
class Books:
    """An admission with its books."""

    refusal: Refusal | None = None
    live: Live = field(default_factory=Live)
    settled: list[Outcome] = field(default_factory=list)
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    admits: asyncio.Event = field(default_factory=opened)

    @property
    def books(self) -> Books:
        return self

    async def admit(self, call: Any, asked: Asked) -> Any:
        await self.admits.wait()
        place: Any = self.live.take(OFFER)
        nothing: Any = None
        decision = Decision(id="d", provider="acme-ai", model="gpt-x", tier="standard")
        return Admitted(call, asked, nothing, decision, OFFER, place, nothing)

    async def move(self, admitted: Admitted, failed: str) -> bool:
        self.is_asked.set()
        await self.answers.wait()
        if self.refusal:
            raise self.refusal
        return True

    def settle(self, call: Any, settlement: Any) -> asyncio.Task[None]:
        self.settled.append(settlement.outcome)
        return asyncio.create_task(asyncio.sleep(0))

    async def wait(self, settling: asyncio.Task[None]) -> None:
        await settling

    async def drain(self, within_s: float) -> None:
        pass


def router_of(books: Any, model: Any = None) -> Router:
    return Router(books, {"openai": model or Failing()}, Sight(Tracer(0.0), CollectorRegistry()))


async def heard(router: Router) -> list[GenerateEvent]:
    async with asyncio.timeout(5):
        return [event async for event in router.generate(call_of(), REQUEST)]


@pytest.mark.parametrize(
    "refusal",
    [
        Unavailable("STORE_UNAVAILABLE", "The database is away."),
        Exhausted("ROOM_BUSY", "Too many begin at once."),
    ],
    ids=lambda refusal: refusal.reason,
)
async def test_a_call_whose_fallback_the_books_refuse_ends_with_an_outcome_that_says_so(refusal: Refusal) -> None:
    books = Books(refusal)
    books.answers.set()
    events = await heard(router_of(books))
    assert [event.WhichOneof("event") for event in events] == ["decision", "outcome"]
    assert events[-1].outcome.failure.reason == refusal.reason
    assert books.settled == [events[-1].outcome]
    assert books.live.lane(OFFER).taken == 0


async def test_a_router_that_stops_while_a_call_falls_back_ends_it_with_an_outcome() -> None:
    books = Books()
    router = router_of(books)
    hearing = asyncio.create_task(heard(router))
    await books.is_asked.wait()
    stopping = asyncio.create_task(router.drain(0))
    await router.interrupting.wait()
    books.answers.set()
    events = await hearing
    assert events[-1].outcome.failure.reason == "INTERRUPTED"
    await stopping


async def test_a_router_that_stops_before_the_model_is_asked_does_not_ask_it() -> None:
    books = Books()
    router = router_of(books, Silent())
    hearing = router.generate(call_of(), REQUEST)
    await anext(hearing)
    stopping = asyncio.create_task(router.drain(0))
    await router.interrupting.wait()
    async with asyncio.timeout(20):
        (last,) = [event async for event in hearing]
    assert last.outcome.failure.reason == "INTERRUPTED"
    assert not last.outcome.usage.input_tokens
    await stopping


async def entered(router: Router, books: Books) -> asyncio.Task[list[GenerateEvent]]:
    """A call that the books keep waiting."""
    books.admits.clear()
    hearing = asyncio.create_task(heard(router))
    await asyncio.sleep(0)
    return hearing


async def test_a_router_that_stops_lets_a_call_that_is_being_admitted_end() -> None:
    books = Books()
    router = router_of(books, Speaking())
    hearing = await entered(router, books)

    async def settled_at_the_end_of_the_drain() -> list[Outcome]:
        await router.drain(20)
        return list(books.settled)

    stopping = asyncio.create_task(settled_at_the_end_of_the_drain())
    await router.stopping.wait()
    books.admits.set()
    events = await hearing
    assert events[-1].outcome.finish_reason == "stop"
    assert await stopping == [events[-1].outcome]


async def test_a_call_that_is_admitted_when_the_router_has_no_time_left_ends_with_an_outcome() -> None:
    books = Books()
    router = router_of(books, Silent())
    hearing = await entered(router, books)
    stopping = asyncio.create_task(router.drain(0))
    await router.stopping.wait()
    books.admits.set()
    events = await hearing
    assert events[-1].outcome.failure.reason == "INTERRUPTED"
    await stopping
