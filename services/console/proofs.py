"""Heads and keys of the trail, and proofs against any signed head: a few hashes each, however long the trail is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.common import pages
from services.common.caller import Caller
from services.common.clock import rfc3339
from services.common.db import Database, Transaction
from services.common.trail import trail
from services.common.trail.checkpoint import origin
from services.console import store
from services.console.names import event_index, head_name, no_event, no_head, not_under
from soma.console.v1 import audit_service_pb2 as wire
from soma.console.v1.audit_pb2 import AuditKey, TreeHead

HEADS = "audit/heads"


@dataclass(frozen=True, slots=True)
class Proofs:
    db: Database

    async def inclusion(self, caller: Caller, request: wire.GetInclusionProofRequest) -> wire.InclusionProof:
        index = event_index(request.name)
        async with self.db.tenant(caller) as tx:
            leaf = await store.leaf(tx, index)
            if leaf is None:
                raise no_event(request.name)
            head = await head_of(tx, request.tree_size) if request.tree_size else await newest(tx)
            if head.size <= index:
                raise not_under(request.name, head.size)
            hashes = await trail.inclusion(tx, caller.tenant, index, head.size)
        return wire.InclusionProof(index=index, leaf_hash=leaf, hashes=hashes, head=as_head(head, caller.tenant))

    async def consistency(self, caller: Caller, request: wire.GetConsistencyProofRequest) -> wire.ConsistencyProof:
        async with self.db.tenant(caller) as tx:
            first = await head_of(tx, request.first_size) if request.first_size else await oldest(tx)
            second = await head_of(tx, request.second_size) if request.second_size else await newest(tx)
            if first.size > second.size:
                raise no_head(first.size, up_to=second.size)
            hashes = await trail.consistency(tx, caller.tenant, first.size, second.size)
        heads = {"first": as_head(first, caller.tenant), "second": as_head(second, caller.tenant)}
        return wire.ConsistencyProof(**heads, hashes=hashes)

    async def heads(self, caller: Caller, request: wire.ListTreeHeadsRequest) -> wire.ListTreeHeadsResponse:
        """One page. A page token holds a UUID: here its number is a size."""
        below = min(pages.before(request.page_token, HEADS).int, trail.BEYOND_ANY)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            found = await trail.heads(tx, caller.tenant, below=below, most=size + 1)
        token = pages.token_after(UUID(int=found[size - 1].size), HEADS) if len(found) > size else ""
        heads = [as_head(head, caller.tenant) for head in found[:size]]
        return wire.ListTreeHeadsResponse(heads=heads, next_page_token=token)

    async def keys(self, caller: Caller) -> wire.ListAuditKeysResponse:
        async with self.db.tenant(caller) as tx:
            found = await trail.keys(tx, caller.tenant)
        return wire.ListAuditKeysResponse(keys=[as_key(key) for key in reversed(found)])


async def head_of(tx: Transaction, size: int) -> trail.Head:
    """The head of exactly that size. Raises NotFound TREE_SIZE_UNKNOWN."""
    head = await trail.covering(tx, tx.caller.tenant, size)
    if head is None or head.size != size:
        raise no_head(size)
    return head


async def oldest(tx: Transaction) -> trail.Head:
    head = await trail.covering(tx, tx.caller.tenant, 0)
    if head is None:
        raise no_head(0)
    return head


async def newest(tx: Transaction) -> trail.Head:
    found = await trail.heads(tx, tx.caller.tenant, most=1)
    if not found:
        raise no_head(0)
    return found[0]


def as_head(head: trail.Head, tenant: str) -> TreeHead:
    shown = TreeHead(
        name=head_name(head.size),
        size=head.size,
        root=head.root,
        checkpoint=head.checkpoint,
        key_name=origin(tenant),
        key_id=head.key_id.hex(),
    )
    shown.time.FromJsonString(rfc3339(head.time))  # as it is signed, to the millisecond
    return shown


def as_key(span: trail.KeySpan) -> AuditKey:
    key = span.key
    return AuditKey(
        name=key.name,
        id=key.id.hex(),
        public_key=key.line,
        first_size=span.first_size,
        last_size=span.last_size,
    )
