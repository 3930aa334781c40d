"""The audit trail of a tenant, for those who may read it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

from soma_api.soma.console.v1 import (
    AuditEvent,
    AuditKey,
    AuditServiceStub,
    ConsistencyProof,
    GetConsistencyProofRequest,
    GetInclusionProofRequest,
    InclusionProof,
    ListAuditEventsRequest,
    ListAuditKeysRequest,
    ListTreeHeadsRequest,
    TreeHead,
)
from soma_sdk.calls import Calls

PAGE = 100


@dataclass(frozen=True, slots=True)
class Audit:
    calls: Calls

    async def events(
        self,
        *,
        person: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[AuditEvent, None]:
        """Sealed events, newest first. The next page is asked for when its first event is."""
        request = ListAuditEventsRequest(
            page_size=PAGE, person=person, action=action, resource=resource, outcome=outcome
        )
        if since is not None:
            request.since = since
        if until is not None:
            request.until = until
        while True:
            page = await self._stub.list_audit_events(request)
            for event in page.events:
                yield event
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def heads(self) -> AsyncGenerator[TreeHead, None]:
        """Signed heads, newest first."""
        request = ListTreeHeadsRequest(page_size=PAGE)
        while True:
            page = await self._stub.list_tree_heads(request)
            for head in page.heads:
                yield head
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def keys(self) -> list[AuditKey]:
        """The public keys that sign, or signed, heads: the newest first."""
        return (await self._stub.list_audit_keys(ListAuditKeysRequest())).keys

    async def inclusion(self, event: str, *, size: int = 0) -> InclusionProof:
        """Proves that an event, by its name, is under the head of a size; 0 is the newest."""
        return await self._stub.get_inclusion_proof(GetInclusionProofRequest(name=event, tree_size=size))

    async def consistency(self, first: int = 0, second: int = 0) -> ConsistencyProof:
        """Proves that a head's trail is the beginning of a later one's; 0 is the oldest, and the newest."""
        return await self._stub.get_consistency_proof(GetConsistencyProofRequest(first_size=first, second_size=second))

    @property
    def _stub(self) -> AuditServiceStub:
        return self.calls.stub(AuditServiceStub)
