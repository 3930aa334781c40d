"""RouterService over gRPC: takes a request apart, hands it to the router."""

from __future__ import annotations

from contextlib import aclosing

from services.common.call import current
from services.common.interceptors import Context
from services.router.generate import Router
from soma.common.v1.model_pb2 import Decision
from soma.router.v1 import router_service_pb2_grpc
from soma.router.v1.router_service_pb2 import DecideRequest, GenerateRequest


class RouterService(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, router: Router) -> None:
        self._router = router

    async def Generate(self, request: GenerateRequest, context: Context) -> None:  # type: ignore[override]
        # Written, not yielded: a caller who hangs up then ends this coroutine, and with it the model's stream, at once.
        async with aclosing(self._router.generate(current.get(), request)) as events:
            async for event in events:
                await context.write(event)

    async def Decide(self, request: DecideRequest, context: Context) -> Decision:
        return await self._router.decide(current.get(), request)
