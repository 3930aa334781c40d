"""ProviderService over gRPC: takes a request apart, hands it to the providers."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.router.providers.deeds import Providers
from soma.router.v1 import provider_service_pb2 as wire
from soma.router.v1.provider_pb2 import Provider
from soma.router.v1.provider_service_pb2_grpc import ProviderServiceServicer


class ProviderService(ProviderServiceServicer):
    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def ListProviders(self, request: wire.ListProvidersRequest, context: Context) -> wire.ListProvidersResponse:
        return await self._providers.list(caller())

    async def GetProvider(self, request: wire.GetProviderRequest, context: Context) -> Provider:
        return await self._providers.get(caller(), request.name)

    async def UpdateProvider(self, request: wire.UpdateProviderRequest, context: Context) -> Provider:
        return await self._providers.update(caller(), request)
