"""A model behind the fake provider, asked through an adapter."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from services.router.models import Adapter, Broken, End, Piece, Prompt
from services.router.offers import Limits, Offer, Price, Provider
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message
from tests.fake_provider import Behaviour, FakeProvider

HELLO = GenerateRequest(messages=[Message(role="user", text="Hello")])


PATIENT = Limits(first_text_s=20, idle_s=5, total_s=30)


@dataclass
class Model:
    """gpt-x of acme."""

    adapter: Adapter
    fake: FakeProvider
    kind: str
    limits: Limits = PATIENT
    traits: frozenset[str] = frozenset()
    options: dict[str, object] = field(default_factory=dict)
    litellm: str = ""
    model: str = "gpt-x"
    whole: bool = False
    """Its answers are asked for in one piece."""

    def prompt(self, request: GenerateRequest = HELLO, base_url: str = "") -> Prompt:
        url = base_url or self.fake.base_url
        provider = Provider("acme", self.kind, url, key="sk-1", limits=self.limits, litellm=self.litellm)
        offer = Offer(
            provider, self.model, "standard", Price(1, 1), 8000, 500, 100, options=self.options, traits=self.traits
        )
        return Prompt(offer, request.messages, 4096, request, self.whole)

    async def ask(self, behaviour: Behaviour, request: GenerateRequest = HELLO) -> tuple[list[Piece], End | Broken]:
        """The pieces, and how it ended."""
        self.fake.behaviour = behaviour
        pieces: list[Piece] = []
        try:
            async with asyncio.timeout(100), aclosing(self.adapter.stream(self.prompt(request))) as stream:
                async for piece in stream:
                    if isinstance(piece, End):
                        return pieces, piece
                    pieces.append(piece)
        except Broken as broken:
            return pieces, broken
        raise AssertionError("the stream ended without End and without Broken")

    async def broken(self, behaviour: Behaviour, request: GenerateRequest = HELLO) -> Broken:
        _, end = await self.ask(behaviour, request)
        assert isinstance(end, Broken)
        return end
