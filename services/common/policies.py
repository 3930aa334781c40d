"""Versions of routing policies as rows: written by the router for people, and by who learns for itself; read by the
router. All in a transaction of the tenant's.

    held = await policies.hold(tx)          # nobody else changes the tenant's policy until commit
    policy.learned = await policies.keep_learned(tx, learned)
    await policies.switch(tx, await policies.add(tx, policy), held)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.db import Record, Transaction
from soma.router.v1.policy_pb2 import Policy

BUILT_IN = 0
"""The version that has no row."""
MOST_BEFORE = 100
"""How many versions a roll back can go back."""


@dataclass(frozen=True, slots=True)
class Active:
    """Which version holds, and which ones held before, the last one last."""

    version: int
    before: Sequence[int] = ()


ACTIVE = "SELECT version, before FROM soma.active_policies WHERE tenant = $1"


async def active(tx: Transaction) -> Active:
    row = await tx.fetchrow(ACTIVE, tx.caller.tenant)
    return Active(row["version"], row["before"]) if row else Active(BUILT_IN)


HOLD = """
INSERT INTO soma.active_policies (tenant, version, change, written) VALUES ($1, 0, 0, pg_current_xact_id())
ON CONFLICT (tenant) DO UPDATE SET tenant = excluded.tenant
RETURNING version, before
"""


async def hold(tx: Transaction) -> Active:
    """The same, locked until commit. To be called before a version is added or switched to."""
    [row] = await tx.fetch(HOLD, tx.caller.tenant)
    return Active(row["version"], row["before"])


ADD = """
INSERT INTO soma.policies (tenant, version, body, digest, learned, author, note, create_time)
SELECT $1, coalesce(max(version), 0) + 1, $2::bytea, sha256($2::bytea), $3, $4, $5, $6
FROM soma.policies WHERE tenant = $1
RETURNING version
"""


async def add(tx: Transaction, policy: Policy) -> int:
    """A new version by the caller; its number. It does not hold yet. Its name, author and time are given here."""
    body = Policy()
    body.CopyFrom(policy)
    for given in ("name", "active", "author", "create_time", "note"):
        body.ClearField(given)
    learned = bytes.fromhex(policy.learned) if policy.learned else None
    whole = body.SerializeToString(deterministic=True)
    who, now = tx.caller.subject, tx.clock.now()
    version: int = await tx.fetchval(ADD, tx.caller.tenant, whole, learned, who, policy.note, now)
    return version


SWITCH = """
UPDATE soma.active_policies
SET version = $2, before = $3, change = change + 1, written = pg_current_xact_id() WHERE tenant = $1
"""


async def switch(tx: Transaction, version: int, held: Active) -> None:
    """Let the version hold from the commit on. `held` is what `hold` said. One that holds already is read anew."""
    before = [*held.before] if version == held.version else [*held.before, held.version][-MOST_BEFORE:]
    await tx.execute(SWITCH, tx.caller.tenant, version, before)


async def switch_back(tx: Transaction, place: int, held: Active) -> None:
    """Let `held.before[place]` hold again; what came after it is forgotten."""
    await tx.execute(SWITCH, tx.caller.tenant, held.before[place], held.before[:place])


KEEP_LEARNED = """
INSERT INTO soma.learned (tenant, digest, body) VALUES ($1, $2, $3) ON CONFLICT (tenant, digest) DO NOTHING
"""


async def keep_learned(tx: Transaction, learned: bytes) -> str:
    """Keep a learned part; the digest by which a policy names it."""
    digest = hashlib.sha256(learned).digest()
    await tx.execute(KEEP_LEARNED, tx.caller.tenant, digest, learned)
    return digest.hex()


COLUMNS = """
SELECT p.version, p.body, p.digest, p.learned, p.author, p.note, p.create_time, l.body AS learned_body
FROM soma.policies p LEFT JOIN soma.learned l ON l.tenant = p.tenant AND l.digest = p.learned
"""
FIND = COLUMNS + "WHERE p.tenant = $1 AND p.version = $2"


async def find(tx: Transaction, version: int) -> Record | None:
    """The version's row with its learned part. None for one that was never made, or is built in."""
    return await tx.fetchrow(FIND, tx.caller.tenant, version)


HAS_LEARNED = "SELECT true FROM soma.learned WHERE tenant = $1 AND digest = $2"


async def has_learned(tx: Transaction, digest: bytes) -> bool:
    return bool(await tx.fetchval(HAS_LEARNED, tx.caller.tenant, digest))


PAGE = """
SELECT version, body, digest, learned, author, note, create_time FROM soma.policies
WHERE tenant = $1 AND version < $2 ORDER BY version DESC LIMIT $3
"""


async def page(tx: Transaction, before: int, most: int) -> Sequence[Record]:
    """Rows without their learned parts, newest first."""
    return await tx.fetch(PAGE, tx.caller.tenant, before, most)


def channel_of(tenant: str) -> str:
    """Where Valkey tells of a change of the tenant's policy."""
    return f"{{{tenant}}}:policy"
