"""What people do with the versions of their tenant's policy. One method a deed, one transaction a method."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common import pages
from services.common import policies as store
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.once import once
from services.router.offers import Offer
from services.router.policies import switching
from services.router.policies.checks import check_policy, invalid
from services.router.policies.held import Policies
from services.router.policies.rows import name_of, shown, version_of
from soma.router.v1 import policy_service_pb2 as wire
from soma.router.v1.policy_pb2 import Policy

LISTING = "policies"
HIGHEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Versions:
    db: Database
    policies: Policies
    offers: Callable[[], Sequence[Offer]]
    """The catalogue as it is now."""

    async def create(self, caller: Caller, request: wire.CreatePolicyRequest) -> Policy:
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Policy) as answer:
            if answer.known is not None:
                return await switching.seen(tx, answer.known.name)
            name = await self.add(tx, request.policy, activate=request.activate)
            tx.about(name)
            policy = await switching.seen(tx, answer.keep(Policy(name=name)).name)
        if request.activate:
            await self.policies.tell(caller.tenant)
        return policy

    async def get(self, caller: Caller, name: str) -> Policy:
        async with self.db.tenant(caller) as tx:
            return await switching.seen(tx, name)

    async def page(self, caller: Caller, request: wire.ListPoliciesRequest) -> wire.ListPoliciesResponse:
        before = pages.before(request.page_token, LISTING).int
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            rows = await store.page(tx, min(before, HIGHEST), size + 1)
            active = (await store.active(tx)).version
        found = [shown(row) for row in rows]
        if len(found) <= size and before > 0:
            found.append(switching.built_in())
        for policy in found:
            policy.active = policy.name == name_of(active)
        listed, token = pages.cut(found, size, LISTING, lambda policy: uuid.UUID(int=version_of(policy.name) or 0))
        return wire.ListPoliciesResponse(policies=listed, next_page_token=token)

    async def activate(self, caller: Caller, request: wire.ActivatePolicyRequest) -> Policy:
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Policy) as answer:
            if answer.known is not None:
                return await switching.seen(tx, answer.known.name)
            policy = await switching.activate(tx, request.name, self.policies.check_learned)
            answer.keep(Policy(name=policy.name))
        await self.policies.tell(caller.tenant)
        return policy

    async def roll_back(self, caller: Caller, request: wire.RollBackPolicyRequest) -> Policy:
        """Twice goes further back. Versions that are corrupt are passed over."""
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Policy) as answer:
            if answer.known is not None:
                return await switching.seen(tx, answer.known.name)
            policy = await switching.roll_back(tx)
            answer.keep(Policy(name=policy.name))
        await self.policies.tell(caller.tenant)
        return policy

    async def add(self, tx: Transaction, policy: Policy, *, activate: bool) -> str:
        """A new version in the caller's transaction; its name. Raises Invalid POLICY_INVALID."""
        check_policy(policy, self.offers())
        if policy.learned and not await store.has_learned(tx, bytes.fromhex(policy.learned)):
            raise invalid("learned", "No such learned part is kept here. Take the digest from another version.")
        held = await store.hold(tx)
        version = await store.add(tx, policy)
        if activate:
            await store.switch(tx, version, held)
            await tx.audit("policy.activated", resource=name_of(version))
        return name_of(version)
