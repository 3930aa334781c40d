"""RouterService over gRPC: takes a request apart, hands it to the router."""

from __future__ import annotations

from contextlib import aclosing

from services.common.call import caller, current
from services.common.interceptors import Context
from services.router.generate import Router
from services.router.replays import Replays
from soma.common.v1.model_pb2 import Decision
from soma.router.v1 import router_service_pb2_grpc
from soma.router.v1.router_service_pb2 import (
    DecideRequest,
    GenerateRequest,
    ReplayDecisionRequest,
    ReplayDecisionResponse,
)


class RouterService(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, router: Router, replays: Replays) -> None:
        self._router, self._replays = router, replays

    async def Generate(self, request: GenerateRequest, context: Context) -> None:  # type: ignore[override]
        # Written, not yielded: a caller who hangs up then ends this coroutine, and with it the model's stream, at once.
        async with aclosing(self._router.generate(current.get(), request)) as events:
            async for event in events:
                await context.write(event)

    async def Decide(self, request: DecideRequest, context: Context) -> Decision:
        return await self._router.decide(current.get(), request)

    async def ReplayDecision(self, request: ReplayDecisionRequest, context: Context) -> ReplayDecisionResponse:
        return await self._replays.replay(caller(), request.name)
