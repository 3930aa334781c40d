"""PolicyService over gRPC: takes a request apart, hands it to the versions."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.router.policies.versions import Versions
from soma.router.v1 import policy_service_pb2 as wire
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.policy_service_pb2_grpc import PolicyServiceServicer


class PolicyService(PolicyServiceServicer):
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def CreatePolicy(self, request: wire.CreatePolicyRequest, context: Context) -> Policy:
        return await self._versions.create(caller(), request)

    async def GetPolicy(self, request: wire.GetPolicyRequest, context: Context) -> Policy:
        return await self._versions.get(caller(), request.name)

    async def ListPolicies(self, request: wire.ListPoliciesRequest, context: Context) -> wire.ListPoliciesResponse:
        return await self._versions.page(caller(), request)

    async def ActivatePolicy(self, request: wire.ActivatePolicyRequest, context: Context) -> Policy:
        return await self._versions.activate(caller(), request)

    async def RollBackPolicy(self, request: wire.RollBackPolicyRequest, context: Context) -> Policy:
        return await self._versions.roll_back(caller(), request)
