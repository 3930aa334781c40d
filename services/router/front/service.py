"""CompletionsService over gRPC: OpenAI's bodies in, the router's answers out as OpenAI's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec
from google.api.httpbody_pb2 import HttpBody

from services.common.call import Call, current
from services.common.caller import Caller
from services.common.clock import Clock
from services.common.interceptors import Context
from services.router.embed import Embedded
from services.router.front.answers import HEARTBEAT, Chunks, Whole
from services.router.front.beat import beating
from services.router.front.embeddings import body_of, read_vectors
from services.router.front.names import Menu
from services.router.front.requests import AskedCompletion, read_asked
from services.router.offers import Offer
from services.router.policies.rules import Rules
from soma.router.v1 import completions_service_pb2 as wire
from soma.router.v1 import completions_service_pb2_grpc
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent

JSON, EVENTS = "application/json", "text/event-stream"
SILENCE_S = 15.0
OPENS_S = 0.1
"""Headers go with the first byte: with the answer's, or with a comment's when the model thinks for longer."""


@dataclass(frozen=True, slots=True)
class Front:
    """What the front door leads to."""

    generate: Callable[[Call, GenerateRequest], AsyncGenerator[GenerateEvent]]
    """Refusals are raised before the first event."""
    embed: Callable[[Call, str, Sequence[str]], Awaitable[Embedded]]
    """Vectors of the texts, of the model that Menu.embedding names, through the one admission path."""
    offers: Callable[[], tuple[Offer, ...]]
    """Those of the catalogue."""
    rules: Callable[[Caller], Awaitable[Rules]]
    """The policy of the caller's tenant. Raises Denied TENANT_UNKNOWN."""
    clock: Clock
    silence_s: float = SILENCE_S

    async def menu(self) -> Menu:
        """What the caller may name now."""
        caller = current.get().caller
        rules = await self.rules(caller)
        return Menu(rules.offers(self.offers()), caller.models)

    def now(self) -> int:
        return int(self.clock.now().timestamp())


class CompletionsService(completions_service_pb2_grpc.CompletionsServiceServicer):
    def __init__(self, front: Front) -> None:
        self._front = front

    # Written, not yielded: a caller who hangs up then ends this coroutine, and with it the model's stream, at once.
    async def CreateChatCompletion(  # type: ignore[override]
        self, request: wire.CreateChatCompletionRequest, context: Context
    ) -> None:
        asked = read_asked(request.body.data, await self._front.menu())
        async with aclosing(self._front.generate(current.get(), asked.request)) as events:
            if asked.streams:
                await self._stream(asked, events, context)
            else:
                await self._whole(events, context)

    async def CreateEmbedding(
        self, request: wire.CreateEmbeddingRequest, context: Context
    ) -> wire.CreateEmbeddingResponse:
        asked = read_vectors(request.body.data, await self._front.menu())
        embedded = await self._front.embed(current.get(), asked.model, asked.inputs)
        data = body_of(asked, embedded.model, embedded.vectors, embedded.input_tokens)
        return wire.CreateEmbeddingResponse(body=HttpBody(content_type=JSON, data=data))

    async def ListCompletionModels(
        self, request: wire.ListCompletionModelsRequest, context: Context
    ) -> wire.ListCompletionModelsResponse:
        menu = await self._front.menu()
        found = [described(name, owner) for name, owner in menu.names()]
        data = msgspec.json.encode({"object": "list", "data": found})
        return wire.ListCompletionModelsResponse(body=HttpBody(content_type=JSON, data=data))

    async def GetCompletionModel(
        self, request: wire.GetCompletionModelRequest, context: Context
    ) -> wire.GetCompletionModelResponse:
        name = unquote(request.model)  # clients write its slash as %2F, which the edge leaves as it is
        menu = await self._front.menu()
        data = msgspec.json.encode(described(name, menu.owner(name)))
        return wire.GetCompletionModelResponse(body=HttpBody(content_type=JSON, data=data))

    async def _stream(self, asked: AskedCompletion, events: AsyncGenerator[GenerateEvent], context: Context) -> None:
        chunks = Chunks(self._front.now(), asked.include_usage)

        async def send(data: bytes) -> None:
            await context.write(wire.CreateChatCompletionResponse(body=HttpBody(content_type=EVENTS, data=data)))

        chunks.of(await anext(events))  # a refusal comes before it, as a status
        async with beating(send, HEARTBEAT, self._front.silence_s, OPENS_S) as write:
            async for event in events:
                if data := chunks.of(event):
                    await write(data)

    async def _whole(self, events: AsyncGenerator[GenerateEvent], context: Context) -> None:
        whole = Whole(self._front.now())
        async for event in events:
            if data := whole.add(event):
                await context.write(wire.CreateChatCompletionResponse(body=HttpBody(content_type=JSON, data=data)))


def described(name: str, owner: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
