"""Which version of a tenant's policy holds, in a transaction of the tenant's: seen, changed, gone back on."""

from __future__ import annotations

from collections.abc import Sequence

from services.common import policies as store
from services.common.db import Transaction
from services.common.errors import NotFound, Precondition
from services.router.policies.rows import Check, Corrupt, name_of, policy_of, rules_of, shown, version_of
from services.router.policies.rules import BUILT_IN
from soma.router.v1.policy_pb2 import Policy

ACTIVE = "policies/active"


async def seen(tx: Transaction, name: str) -> Policy:
    """The version as it is now. Raises NotFound POLICY_UNKNOWN."""
    active = (await store.active(tx)).version
    version = numbered(name, active)
    if version == store.BUILT_IN:
        policy = built_in()
    elif row := await store.find(tx, version):
        policy = shown(row)
    else:
        raise unknown(name)
    policy.active = version == active
    return policy


async def activate(tx: Transaction, name: str, check_learned: Check) -> Policy:
    """Let the version hold from the commit on. Raises NotFound POLICY_UNKNOWN, Precondition POLICY_INVALID."""
    held = await store.hold(tx)
    version = numbered(name, held.version)
    await check_readable(tx, version, check_learned)
    await store.switch(tx, version, held)
    tx.about(name_of(version))
    return await seen(tx, name_of(version))


async def roll_back(tx: Transaction) -> Policy:
    """Let the last one hold that held before and is not corrupt; one whose learned part alone cannot be read holds
    without it. Raises Precondition POLICY_INVALID."""
    held = await store.hold(tx)
    place = await last_readable(tx, held.before)
    await store.switch_back(tx, place, held)
    tx.about(name_of(held.before[place]))
    return await seen(tx, name_of(held.before[place]))


async def check_readable(tx: Transaction, version: int, check_learned: Check) -> None:
    """Raises NotFound POLICY_UNKNOWN, Precondition POLICY_INVALID."""
    if version == store.BUILT_IN:
        return
    row = await store.find(tx, version)
    if row is None:
        raise unknown(name_of(version))
    try:
        rules_of(row, check_learned)
    except Corrupt as corrupt:
        message = f"This version is corrupt: {corrupt} Make a new one."
        raise Precondition("POLICY_INVALID", message, field="policy") from corrupt


async def last_readable(tx: Transaction, before: Sequence[int]) -> int:
    """Its place among those that held before. Raises Precondition POLICY_INVALID when there is none."""
    for place in reversed(range(len(before))):
        if await is_readable(tx, before[place]):
            return place
    message = "No version held before this one. To let another hold, activate it."
    raise Precondition("POLICY_INVALID", message, field="name")


async def is_readable(tx: Transaction, version: int) -> bool:
    """Its rules are."""
    if version == store.BUILT_IN:
        return True
    row = await store.find(tx, version)
    try:
        return row is not None and policy_of(row) is not None
    except Corrupt:
        return False


def built_in() -> Policy:
    policy = Policy()
    policy.CopyFrom(BUILT_IN.policy)
    return policy


def numbered(name: str, active: int) -> int:
    """The version's number. Raises NotFound POLICY_UNKNOWN."""
    version = active if name == ACTIVE else version_of(name)
    if version is None:
        raise unknown(name)
    return version


def unknown(name: str) -> NotFound:
    return NotFound("POLICY_UNKNOWN", "Your tenant has no such version of its policy.", name=name[:200])
