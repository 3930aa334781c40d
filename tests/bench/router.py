"""What a streamed token costs the router: from the provider's bytes to a gRPC message, over mTLS.

The fake provider paces its words, so that each is a write of its own, quickly and slowly; then it sends 64 at a time.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import uvloop

from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import Message
from tests.bench.fake import running_fake
from tests.bench.figure import Figure
from tests.bench.spent import cpu_s
from tests.house import House, open_house

STREAMS = 16
WORDS, PACE_MS = 1600, 4.0
WORDS_SLOW, PACE_SLOW_MS = 200, 30.0
WORDS_JOINED, JOINED, TIMES_JOINED = 4096, 64, 4
ROUNDS = 2


@dataclass(slots=True)
class Seen:
    words: int = 0
    messages: int = 0
    cpu_s: float = 0.0

    @property
    def cost_us(self) -> float:
        return self.cpu_s / self.words * 1e6


def measure(scale: float) -> list[Figure]:
    return uvloop.run(measured(scale))


async def measured(scale: float) -> list[Figure]:
    async with AsyncExitStack() as doors:
        fake = doors.enter_context(running_fake())
        house = await doors.enter_async_context(open_house(start=()))
        fake.write_catalogue(house.folder / "providers.toml")
        await house.start("router")
        fake.behave(words=50)
        await spoken(house, Seen())
        apart, slow, joined = Seen(), Seen(), Seen()
        for _ in range(ROUNDS):
            fake.behave(words=max(100, round(WORDS / ROUNDS * scale)), pace_ms=PACE_MS, joined=1)
            await spoken(house, apart)
            fake.behave(words=max(20, round(WORDS_SLOW / ROUNDS * scale)), pace_ms=PACE_SLOW_MS, joined=1)
            await spoken(house, slow)
            fake.behave(words=WORDS_JOINED, pace_ms=0, joined=JOINED)
            for _ in range(max(1, round(TIMES_JOINED / ROUNDS * scale))):
                await spoken(house, joined)
        return [
            Figure("CPU a token, 250 a second", apart.cost_us, "µs", 70, at_most=True, note=told(apart)),
            Figure("CPU a token, 33 a second, a message each", slow.cost_us, "µs", note=told(slow)),
            Figure("CPU a token, 64 in a write", joined.cost_us, "µs", note=told(joined)),
            Figure("joined / apart", joined.cost_us / apart.cost_us),
        ]


def told(seen: Seen) -> str:
    return f"{seen.words:,} tokens in {seen.messages:,} messages"


async def spoken(house: House, seen: Seen) -> None:
    """A few answers side by side, added to what was seen."""
    pid = house.rooms["router"].pid
    before = cpu_s(pid)
    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(one(house, seen))
    seen.cpu_s += cpu_s(pid) - before


async def one(house: House, seen: Seen) -> None:
    stub = RouterServiceStub(house.channel("router", as_room="agent"))
    request = GenerateRequest(messages=[Message(role="user", text="speak")], max_tokens=8000)
    async for event in stub.Generate(request, metadata=house.person().metadata, timeout=60):
        match event.WhichOneof("event"):
            case "decision":
                assert event.decision.provider == "fake", event.decision
            case "text":
                seen.messages += 1
                seen.words += event.text.delta.count("word")
            case "outcome":
                assert event.outcome.finish_reason == "stop", event.outcome
