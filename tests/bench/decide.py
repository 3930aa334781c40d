"""What a decision costs with 20 candidates: by itself, with what was learned, and with the vector of its prompt from a
model process of its own. One at a time, in this process, as the router makes them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvloop

from services.common.caller import Caller
from services.common.clock import new_id
from services.common.learning.prior import shipped
from services.local.ports import free_port
from services.router.asked import Asked, asked_of
from services.router.budgets.room import Left, Room
from services.router.decide import AUTO, Field, Moment, Question, decide, prepare
from services.router.eyes import Eyes
from services.router.models.embeddings import open_embedder
from services.router.offers import TIERS, Figures, Offer, Price, Provider
from services.router.policies.rules import BUILT_IN
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message
from tests.bench.figure import Figure
from tests.bench.spent import percentile
from tests.doors.model import running_model

CANDIDATES = 20
PLAIN, LOOKED, EMBEDDED, WARM_UP = 5000, 2000, 150, 20
CALLER = Caller("acme", "member", frozenset({"member"}), frozenset())
OFFERS = tuple(
    Offer(
        Provider(f"provider-{n}", "openai"), f"model-{n}", TIERS[n % len(TIERS)],
        Price(100_000 * (n + 1), 400_000 * (n + 1)), 128_000, 4096, 200 + 10 * n, quality=0.4 + 0.02 * n,
    )
    for n in range(CANDIDATES)
)  # fmt: skip
ROOM: Room = tuple(Left(f"budgets/{n}", "a budget", "", 10**9, 10**9, None, None) for n in range(3))


class Nothing:
    """Vectors that are never there in time."""

    async def vector(self, _text: str) -> None:
        return None


def measure(scale: float) -> list[Figure]:
    return uvloop.run(measured(scale))


async def measured(scale: float) -> list[Figure]:
    prior, field = shipped(), prepare(asked("").shape, OFFERS, BUILT_IN)
    alone = decisions_ms(field, max(100, round(PLAIN * scale)))
    narrow = decisions_ms(field, max(100, round(PLAIN * scale)), ROOM)
    blind = await looks_ms(Eyes(prior, Nothing()), field, texts("blind", LOOKED, scale))
    async with AsyncExitStack() as doors:
        port = free_port()
        await doors.enter_async_context(running_model(port, SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN=f"127.0.0.1:{port}"))
        embedder = await doors.enter_async_context(open_embedder(f"http://127.0.0.1:{port}/v1"))
        seeing, new = Eyes(prior, embedder), texts("seen", EMBEDDED, scale)
        embedded = await looks_ms(seeing, field, new)
        in_time = len(embedder.cache.known)
        again = await looks_ms(seeing, field, new * (1 + LOOKED // EMBEDDED))
    name = f"decision, {CANDIDATES} candidates"
    return [
        in_us(name, alone, 50),
        in_us("the same, when a budget is short", narrow),
        in_us("the same, from the question on, without its vector", blind),
        in_us("the same, its vector known", again),
        Figure(
            "the same, its vector new", statistics.median(embedded), "ms", 15, at_most=True,
            note=f"p50; p95 {percentile(embedded, 95):.1f} ms; {in_time} of {len(new)} in time",
        ),
    ]  # fmt: skip


def in_us(name: str, took_ms: Sequence[float], goal: float | None = None) -> Figure:
    p95 = percentile(took_ms, 95) * 1e3
    return Figure(name, statistics.median(took_ms) * 1e3, "µs", goal, at_most=True, note=f"p50; p95 {p95:.0f} µs")


def asked(text: str) -> Asked:
    return asked_of(CALLER, GenerateRequest(messages=[Message(role="user", text=text)], tier=AUTO))


def texts(kind: str, times: int, scale: float) -> list[str]:
    return [
        f"How many apples are in {kind} basket {n}, and who ate the rest?"
        for n in range(WARM_UP + round(times * scale))
    ]


def decisions_ms(field: Field, times: int, room: Room = ()) -> list[float]:
    figures, id, took = Figures(300), new_id(), []
    question = Question(asked("How much is it, and when does it come?").size)
    qualities = {plan.name: plan.quality for plan in field.plans}
    moment = Moment(lambda _: figures, qualities, room, 0.5, "prices 1", "DEVELOPER")
    for _ in range(WARM_UP + times):
        began = time.perf_counter()
        decision = decide(question, field, moment, id)
        took.append((time.perf_counter() - began) * 1e3)
    assert len(decision.candidates) == CANDIDATES and not any(c.filter for c in decision.candidates), decision
    return took[WARM_UP:]


async def looks_ms(eyes: Eyes, field: Field, prompts: Sequence[str]) -> list[float]:
    """From the question as it was asked to the decision."""
    figures, took = Figures(300), []
    for prompt in prompts:
        question, id = asked(prompt), new_id()
        began = time.perf_counter()
        seen = await eyes.see(question, field)
        moment = Moment(lambda _: figures, seen.qualities, (), 0.5, "prices 1", "DEVELOPER")
        decide(Question(question.size, 0, seen.features), field, moment, id)
        took.append((time.perf_counter() - began) * 1e3)
    return took[WARM_UP:]
