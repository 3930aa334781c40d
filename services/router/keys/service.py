"""KeyService over gRPC: takes a request apart, hands it to the keys."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.router.keys.issue import Keys
from soma.router.v1 import key_service_pb2 as wire
from soma.router.v1.key_pb2 import Key
from soma.router.v1.key_service_pb2_grpc import KeyServiceServicer


class KeyService(KeyServiceServicer):
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def CreateKey(self, request: wire.CreateKeyRequest, context: Context) -> Key:
        return await self._keys.create(caller(), request)

    async def GetKey(self, request: wire.GetKeyRequest, context: Context) -> Key:
        return await self._keys.get(caller(), request.name)

    async def ListKeys(self, request: wire.ListKeysRequest, context: Context) -> wire.ListKeysResponse:
        return await self._keys.page(caller(), request)

    async def RevokeKey(self, request: wire.RevokeKeyRequest, context: Context) -> Key:
        return await self._keys.revoke(caller(), request)
