"""The OpenAI front door behind an edge: the real service, with answers that are told by a test instead of a model."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.common.call import NOBODY, Call, current
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.errors import Exhausted, Refusal, Unauthenticated, Unavailable
from services.common.interceptors import Context, abort, bearer
from services.router.embed import Embedded
from services.router.front.service import CompletionsService, Front
from services.router.offers import Offer, Price, Provider
from services.router.policies.rules import BUILT_IN, Rules
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage
from soma.router.v1 import completions_service_pb2_grpc
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent, Outcome, TextDelta, ToolCallDelta

GOOD_KEY, BOUND_KEY = "sk-soma-good", "sk-soma-bound"
DECIDED = GenerateEvent(decision=Decision(id="d1", provider="acme", model="grande"))
USAGE = Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2, reasoning_tokens=1)
OFFERS = (
    Offer(Provider("acme", "openai"), "grande", "premium", Price(1, 1), 8192, 1024, 100),
    Offer(Provider("acme", "openai"), "petit", "slm", Price(1, 1), 8192, 1024, 100),
    Offer(
        Provider("minilm", "openai", jurisdictions=frozenset({"here"})),
        "all-MiniLM-L6-v2",
        "slm",
        Price(0, 0),
        8192,
        1024,
        100,
        capabilities=frozenset({"embeddings"}),
    ),
)


def text(said: str) -> GenerateEvent:
    return GenerateEvent(text=TextDelta(delta=said))


def piece(index: int, arguments: str, id: str = "", name: str = "") -> GenerateEvent:
    return GenerateEvent(tool_call=ToolCallDelta(index=index, id=id, name=name, arguments=arguments))


def ended(reason: str = "stop") -> GenerateEvent:
    return GenerateEvent(outcome=Outcome(usage=USAGE, finish_reason=reason))


def failed(reason: str, message: str) -> GenerateEvent:
    return GenerateEvent(outcome=Outcome(usage=USAGE, failure=Failure(reason=reason, message=message, retryable=True)))


async def no_rules(caller: Caller) -> Rules:
    return BUILT_IN


REFUSALS: dict[str, Refusal] = {
    "spent": Exhausted(
        "BUDGET_SPENT", 'The budget "team \\ red" of today is spent. It renews at midnight.', budget="b"
    ),
    "busy": Exhausted("MODEL_BUSY", "The model's queue is full.", retry_after_s=1.5),
    "away": Unavailable("MODEL_UNAVAILABLE", "No model is open."),
}


@dataclass
class Told:
    """The router as a test tells it, by the first word of the last message."""

    asked: list[GenerateRequest] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """An answer's stream was closed."""

    async def generate(self, call: Call, request: GenerateRequest) -> AsyncGenerator[GenerateEvent]:
        self.asked.append(request)
        deed = request.messages[-1].text.split(" ", 1)[0]
        if deed in REFUSALS:
            raise REFUSALS[deed]
        try:
            yield DECIDED
            for step in self.steps(deed):
                if step is None:
                    await self.go_on.wait()
                else:
                    yield step
        finally:
            self.ended.set()

    def steps(self, deed: str) -> Sequence[GenerateEvent | None]:
        if deed == "tools":
            first = [piece(0, "", "call_1", "weather"), piece(0, '{"city":'), piece(0, '"Oslo"}')]
            return [*first, piece(1, '{"city":"Rome"', "call_2", "weather"), piece(1, "}"), ended("tool_calls")]
        if deed == "json":
            return [text('{"name":'), text('"Ada","age":36}'), ended()]
        if deed == "cut":
            return [text("half"), failed("PROVIDER_CUT", "acme broke off.")]
        if deed == "broken":
            return [failed("PROVIDER_FAILED", "acme is ill.")]
        if deed == "long":
            return [text("x" * 1_500_000), ended()]
        if deed == "think":
            return [None, text("one"), text(" two"), ended()]
        if deed == "wait":
            return [text("one"), None, text(" two"), ended()]
        return [text("Hello"), text(' wörld "quoted"\n'), ended()]

    async def embed(self, call: Call, model: str, texts: Sequence[str]) -> Embedded:
        return Embedded(model, [array("f", [len(text), 0.5, -1.0]) for text in texts], 5)

    def door(self, silence_s: float = 15.0) -> Any:
        """What adds the service to a server."""
        front = Front(self.generate, self.embed, lambda: OFFERS, no_rules, SystemClock(), silence_s)
        return lambda server: completions_service_pb2_grpc.add_CompletionsServiceServicer_to_server(
            Doorkept(front), server
        )


class Doorkept(CompletionsService):
    """The service with a short way past the guard: two keys are known, and of other tokens the edge has seen to it."""

    async def CreateChatCompletion(self, request: Any, context: Context) -> None:  # type: ignore[override]
        await self.inside(context, super().CreateChatCompletion(request, context))

    async def CreateEmbedding(self, request: Any, context: Context) -> Any:
        return await self.inside(context, super().CreateEmbedding(request, context))

    async def ListCompletionModels(self, request: Any, context: Context) -> Any:
        return await self.inside(context, super().ListCompletionModels(request, context))

    async def GetCompletionModel(self, request: Any, context: Context) -> Any:
        return await self.inside(context, super().GetCompletionModel(request, context))

    async def inside(self, context: Context, answer: Any) -> Any:
        try:
            current.set(who(context))
            return await answer
        except Refusal as refusal:
            answer.close()
            await abort(context, refusal)


def who(context: Context) -> Call:
    shown = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
    token = bearer(shown.get("authorization", ""))
    if token.startswith("sk-soma-") and token not in (GOOD_KEY, BOUND_KEY):
        raise Unauthenticated("TOKEN_REFUSED", "This key is not good. Make a new one: soma key create")
    models = frozenset({"grande"}) if token == BOUND_KEY else frozenset[str]()
    return replace(NOBODY, person=Caller("acme", "member", frozenset({"member"}), frozenset(), models=models))
