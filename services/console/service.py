"""AuditService over gRPC: takes a request apart."""

from __future__ import annotations

from services.common.db import Database
from services.common.interceptors import Context
from soma.console.v1 import audit_pb2 as nouns
from soma.console.v1 import audit_service_pb2 as wire
from soma.console.v1.audit_service_pb2_grpc import AuditServiceServicer


class AuditService(AuditServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def ListAuditEvents(
        self, request: wire.ListAuditEventsRequest, context: Context
    ) -> wire.ListAuditEventsResponse:
        raise NotImplementedError

    async def GetAuditEvent(self, request: wire.GetAuditEventRequest, context: Context) -> nouns.AuditEvent:
        raise NotImplementedError

    async def GetInclusionProof(self, request: wire.GetInclusionProofRequest, context: Context) -> wire.InclusionProof:
        raise NotImplementedError

    async def ListTreeHeads(self, request: wire.ListTreeHeadsRequest, context: Context) -> wire.ListTreeHeadsResponse:
        raise NotImplementedError

    async def GetConsistencyProof(
        self, request: wire.GetConsistencyProofRequest, context: Context
    ) -> wire.ConsistencyProof:
        raise NotImplementedError

    async def ListAuditKeys(self, request: wire.ListAuditKeysRequest, context: Context) -> wire.ListAuditKeysResponse:
        raise NotImplementedError
