"""The OpenAI-wire adapter before a provider over a real socket that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from services.router.models import Broken, End, Piece, Prompt
from services.router.models.conversing import open_session
from services.router.models.openai import OpenAI
from services.router.offers import Limits, Offer, Price, Provider
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message
from tests.asking_models import PATIENT
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider

LIMITS = Limits(first_text_s=1.0, idle_s=0.6, total_s=30)
"""For tests whose subject is silence."""


@dataclass
class Bench:
    adapter: OpenAI
    provider: FakeProvider
    limits: Limits = PATIENT

    def prompt(self, base_url: str = "", request: GenerateRequest | None = None) -> Prompt:
        request = request or GenerateRequest(messages=[Message(role="user", text="Hello")])
        provider = Provider("acme", "openai", base_url or self.provider.base_url, key="sk-1", limits=self.limits)
        offer = Offer(provider, "gpt-x", "standard", Price(1, 1), 8000, 500, 100, options={"temperature": 0.5})
        return Prompt(offer, request.messages, max_tokens=77, request=request)

    async def ask(
        self, behaviour: Behaviour, adapter: OpenAI | None = None, request: GenerateRequest | None = None
    ) -> tuple[list[str], End | Broken]:
        """The pieces of text, and how it ended."""
        pieces, end = await self.hear(behaviour, adapter, request)
        assert all(isinstance(piece, str) for piece in pieces)
        return [piece for piece in pieces if isinstance(piece, str)], end

    async def hear(
        self, behaviour: Behaviour, adapter: OpenAI | None = None, request: GenerateRequest | None = None
    ) -> tuple[list[Piece], End | Broken]:
        """All pieces, and how it ended."""
        self.provider.behaviour = behaviour
        pieces: list[Piece] = []
        prompt = self.prompt(request=request)
        try:
            async with asyncio.timeout(100), aclosing((adapter or self.adapter).stream(prompt)) as stream:
                async for piece in stream:
                    if isinstance(piece, End):
                        return pieces, piece
                    assert piece, "an empty piece"
                    pieces.append(piece)
        except Broken as broken:
            return pieces, broken
        raise AssertionError("the stream ended without End and without Broken")


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    async with open_fake_provider() as provider, open_session() as session:
        yield Bench(OpenAI(session), provider)


def chunks(*deltas: dict[str, object], finish: str = "stop") -> Behaviour:
    told: list[object] = [{"choices": [{"delta": delta}]} for delta in deltas]
    told.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    return Behaviour(raw="".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n")


def call(index: int | None, id: str | None, name: str | None, arguments: object) -> dict[str, object]:
    told = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [told]}
