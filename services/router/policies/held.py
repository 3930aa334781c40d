"""The policies that hold now, in memory. News of a change come by Valkey; a look at Postgres, twice a second, finds
what nobody told. A version that cannot be read opens nothing: what is held here stays, and where nothing is held the
tenant's calls are refused until another version holds. One of which only the learned part cannot be read holds without
it. The log and a metric tell of both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from services.common.cache import Cache
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Refusal, Unavailable
from services.common.policies import BUILT_IN as BUILT_IN_VERSION
from services.common.policies import channel_of, find
from services.common.telemetry import Sight, log
from services.router.policies.rows import Check, Corrupt, Unlearned, name_of, rules_of
from services.router.policies.rules import BUILT_IN, Rules

LOOK_EVERY_S = 0.5
LOOK_WITHIN_S = 5.0
PATIENCE_S = 0.5
PAUSE_S = 1.0
AGAIN_S = 5.0
"""When who was refused for a corrupt version may ask again: a person has to act first."""
PATTERN = "{*}:policy"
FROM_THE_BEGINNING = "0"

STATE = "SELECT version, change FROM soma.active_policies WHERE tenant = $1"
CHANGED = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS seen, array_agg(tenant) AS tenants, array_agg(change) AS changes
FROM soma.active_policies WHERE written >= $1::text::xid8
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A tenant's rules, and which change of its policy they are."""

    rules: Rules | None
    """None: the version is corrupt, and nothing was held before."""
    change: int


@dataclass(slots=True)
class Policies:
    """A change holds here within a second. Nobody waits for one: a call goes by what is in memory when it is asked."""

    db: Database
    cache: Cache
    sight: Sight
    check_learned: Check
    _held: dict[str, Held] = field(default_factory=dict)
    _deaf: bool = False

    async def rules(self, caller: Caller) -> Rules:
        """Those that hold for the caller's tenant. Waits at its first call alone. Raises Denied TENANT_UNKNOWN,
        Unavailable STORE_UNAVAILABLE, also where the version that should hold is corrupt and none is held."""
        held = self._held.get(caller.tenant) or await self._load(caller.tenant)
        if held.rules is None:
            raise corrupt_here()
        return held.rules

    async def tell(self, tenant: str) -> None:
        """The tenant's policy was changed here, and that is committed. Told if it can be told soon: others look."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._load(tenant)
                await self.cache.publish(channel_of(tenant), b"")
        except (Refusal, TimeoutError):
            log().warning("a change of policy is not told: others will see it", tenant=tenant)

    async def listen(self) -> None:
        """Hear of changes made elsewhere, until cancelled."""
        while True:
            try:
                async with self.cache.listening(PATTERN) as news:
                    self._deaf = False
                    async for channel, _ in news:
                        await self._renew(tenant_of(channel))
            except Unavailable:
                if not self._deaf:
                    log().warning("changes of policies are not heard: Valkey is away")
                self._deaf = True
            await asyncio.sleep(PAUSE_S)

    async def look(self) -> None:
        """Look for changes that nobody told, until cancelled."""
        seen, away = FROM_THE_BEGINNING, False
        while True:
            try:
                async with asyncio.timeout(LOOK_WITHIN_S):
                    seen = await self._round(seen)
                away = False
            except (Refusal, TimeoutError):
                if not away:
                    log().warning("policies are kept as they were: Postgres is away")
                away = True
            await asyncio.sleep(LOOK_EVERY_S)

    async def _round(self, seen: str) -> str:
        """Read what was changed by transactions that ran at the last look or later. Returns where the next one begins:
        a transaction that commits late is found then."""
        [row] = await self.db.look(CHANGED, seen)
        for tenant, change in zip(row["tenants"] or (), row["changes"] or (), strict=True):
            held = self._held.get(tenant)
            if held and held.change < change:
                await self._load(tenant)
        return str(row["seen"])

    async def _renew(self, tenant: str) -> None:
        if tenant in self._held:
            try:
                await self._load(tenant)
            except Refusal:
                log().warning("a policy is read later: Postgres is away", tenant=tenant)

    async def _load(self, tenant: str) -> Held:
        async with self.db.upkeep(Caller.system("router", tenant)) as tx:
            state = await tx.fetchrow(STATE, tenant)
            change = state["change"] if state else 0
            held = self._held.get(tenant)
            if held and held.change >= change:
                return held
            rules = await self._readable(tx, state["version"]) if state else BUILT_IN
        held = self._held.get(tenant)  # another may have read meanwhile, and later
        if held is None or held.change < change:
            self._held[tenant] = held = Held(rules or (held.rules if held else None), change)
        return held

    async def _readable(self, tx: Transaction, version: int) -> Rules | None:
        """The version's rules, as far as they can be read; None for a corrupt one."""
        refused = self.sight.policy_refused.labels(tx.caller.tenant)
        try:
            rules = await self._version(tx, version)
        except Corrupt as corrupt:
            refused.set(1)
            is_part = isinstance(corrupt, Unlearned)
            what = "a policy holds without its learned part" if is_part else "a policy is corrupt and is refused"
            log().error(what, tenant=tx.caller.tenant, policy=name_of(version), why=str(corrupt))
            return corrupt.rules if isinstance(corrupt, Unlearned) else None
        refused.set(0)
        return rules

    async def _version(self, tx: Transaction, version: int) -> Rules:
        if version == BUILT_IN_VERSION:
            return BUILT_IN
        row = await find(tx, version)
        if row is None:
            raise Corrupt("Its row is missing.")
        return rules_of(row, self.check_learned)


def corrupt_here() -> Unavailable:
    message = (
        "Your tenant's policy is corrupt, so no model can be chosen by it. "
        "Ask an admin of your tenant to roll the policy back, or to activate another version."
    )
    return Unavailable("STORE_UNAVAILABLE", message, retry_after_s=AGAIN_S)


def tenant_of(channel: str) -> str:
    return channel.removeprefix("{").partition("}")[0]
