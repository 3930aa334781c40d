"""AuditService over gRPC: takes a request apart, hands it to the deed."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.console.proofs import Proofs
from services.console.trail import Trail
from soma.console.v1 import audit_service_pb2 as wire
from soma.console.v1.audit_pb2 import AuditEvent
from soma.console.v1.audit_service_pb2_grpc import AuditServiceServicer


class AuditService(AuditServiceServicer):
    def __init__(self, trail: Trail, proofs: Proofs) -> None:
        self._trail, self._proofs = trail, proofs

    async def ListAuditEvents(
        self, request: wire.ListAuditEventsRequest, context: Context
    ) -> wire.ListAuditEventsResponse:
        return await self._trail.page(caller(), request)

    async def GetAuditEvent(self, request: wire.GetAuditEventRequest, context: Context) -> AuditEvent:
        return await self._trail.get(caller(), request.name)

    async def GetInclusionProof(self, request: wire.GetInclusionProofRequest, context: Context) -> wire.InclusionProof:
        return await self._proofs.inclusion(caller(), request)

    async def ListTreeHeads(self, request: wire.ListTreeHeadsRequest, context: Context) -> wire.ListTreeHeadsResponse:
        return await self._proofs.heads(caller(), request)

    async def GetConsistencyProof(
        self, request: wire.GetConsistencyProofRequest, context: Context
    ) -> wire.ConsistencyProof:
        return await self._proofs.consistency(caller(), request)

    async def ListAuditKeys(self, request: wire.ListAuditKeysRequest, context: Context) -> wire.ListAuditKeysResponse:
        return await self._proofs.keys(caller())
