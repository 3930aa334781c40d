"""What people do with providers. To turn one off or on makes a new version of the tenant's policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common import policies as store
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Invalid, NotFound, Precondition
from services.common.once import once
from services.common.validation import check
from services.router.offers import Offer
from services.router.policies.rows import CORRUPT_NOTE, Corrupt, policy_of
from services.router.policies.rules import BUILT_IN, Rules
from services.router.policies.versions import Versions
from services.router.providers.view import Seen, providers_of, switched
from soma.router.v1 import provider_service_pb2 as wire
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.provider_pb2 import Provider

CHANGEABLE = "enabled"


@dataclass(frozen=True, slots=True)
class Providers:
    db: Database
    versions: Versions
    offers: Callable[[], tuple[Offer, ...]]
    """The catalogue as it is now."""
    seen: Seen
    """How models are doing."""

    async def list(self, caller: Caller) -> wire.ListProvidersResponse:
        return wire.ListProvidersResponse(providers=await self._all(caller))

    async def get(self, caller: Caller, name: str) -> Provider:
        return named(name, await self._all(caller))

    async def update(self, caller: Caller, request: wire.UpdateProviderRequest) -> Provider:
        asked = request.provider
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Provider) as answer:
            tx.about(asked.name)
            check_mask(request.update_mask.paths)
            if answer.known is not None:
                return named(asked.name, self._seen(Rules(await policy_now(tx))))
            named(asked.name, self._seen(BUILT_IN))
            await store.hold(tx)
            policy = await self._switch(tx, asked)
            answer.keep(Provider(name=asked.name))
        await self.versions.policies.tell(caller.tenant)
        return named(asked.name, self._seen(Rules(policy)))

    async def _switch(self, tx: Transaction, asked: Provider) -> Policy:
        """The policy that holds now: a new version, if that changes anything."""
        now, provider = await policy_now(tx), asked.name.removeprefix("providers/")
        made = switched(now, provider, enabled=asked.enabled)
        if made != now:
            made.note = f"{provider} was turned {'on' if asked.enabled else 'off'}."
            check(made)
            await self.versions.add(tx, made, activate=True)
        return made

    async def _all(self, caller: Caller) -> Sequence[Provider]:
        async with self.db.tenant(caller) as tx:
            return self._seen(Rules(await policy_now(tx)))

    def _seen(self, rules: Rules) -> Sequence[Provider]:
        return providers_of(self.offers(), rules, self.seen)


async def policy_now(tx: Transaction) -> Policy:
    """The version that holds. Raises Precondition POLICY_INVALID when it is corrupt."""
    version = (await store.active(tx)).version
    row = await store.find(tx, version)
    try:
        return policy_of(row) if row else BUILT_IN.policy
    except Corrupt as corrupt:
        message = f"{CORRUPT_NOTE} Roll back, or activate another one."
        raise Precondition("POLICY_INVALID", message, field="policy") from corrupt


def named(name: str, providers: Sequence[Provider]) -> Provider:
    """Raises NotFound PROVIDER_UNKNOWN."""
    found = next((provider for provider in providers if provider.name == name), None)
    if found is None:
        message = "The catalogue has no such provider. GET /v1/providers lists what there is."
        raise NotFound("PROVIDER_UNKNOWN", message, name=name[:200])
    return found


def check_mask(paths: Sequence[str]) -> None:
    if not paths or set(paths) != {CHANGEABLE}:
        message = f"Say in update_mask what to change. It can be: {CHANGEABLE}."
        raise Invalid("UPDATE_MASK_INVALID", message, field="update_mask")
