"""API keys in Postgres. A key is kept as its hash alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from uuid import UUID

from services.common import api_keys
from services.common.db import Database, Record, Transaction
from services.common.names import UUID_TEXT
from soma.router.v1.key_pb2 import Key

NAME = re.compile(f"keys/{UUID_TEXT}")

ADD = """
INSERT INTO soma.keys (id, tenant, hash, person, team, models, budget_microusd, title, hint, create_time, expire_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def add(tx: Transaction, id: UUID, key: Key, secret: str) -> None:
    expires = key.expire_time.ToDatetime(UTC) if key.HasField("expire_time") else None
    await tx.execute(
        ADD, id, tx.caller.tenant, api_keys.hash_of(secret), key.person, key.team, list(dict.fromkeys(key.models)),
        key.budget_microusd if key.HasField("budget_microusd") else None, key.title, api_keys.hint_of(secret),
        tx.clock.now(), expires,
    )  # fmt: skip


COLUMNS = """
SELECT id, tenant, person, team, models, budget_microusd, title, hint, create_time, expire_time, revoke_time FROM
"""
FIND = COLUMNS + "soma.keys WHERE tenant = $1 AND id = $2"


async def find(tx: Transaction, id: UUID) -> Key | None:
    row = await tx.fetchrow(FIND, tx.caller.tenant, id)
    return as_key(row) if row else None


PAGE = COLUMNS + "soma.keys WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3"


async def page(tx: Transaction, before: UUID, most: int) -> list[Key]:
    """Newest first."""
    return [as_key(row) for row in await tx.fetch(PAGE, tx.caller.tenant, before, most)]


REVOKE = """
UPDATE soma.keys SET revoke_time = coalesce(revoke_time, $3) WHERE tenant = $1 AND id = $2
"""


async def revoke(tx: Transaction, id: UUID) -> None:
    """One that is revoked keeps its time."""
    await tx.execute(REVOKE, tx.caller.tenant, id, tx.clock.now())


WITH = COLUMNS + "soma.key_with($1)"


async def key_with(db: Database, hash: bytes) -> Record | None:
    """The key that has the secret, of whichever tenant. For the router alone."""
    rows: Sequence[Record] = await db.look(WITH, hash)
    return rows[0] if rows else None


def as_key(row: Record) -> Key:
    key = Key(
        name=name_of(row["id"]),
        person=row["person"],
        team=row["team"],
        models=row["models"],
        budget_microusd=row["budget_microusd"],
        title=row["title"],
        hint=row["hint"],
    )
    for time in ("create_time", "expire_time", "revoke_time"):
        if row[time] is not None:
            getattr(key, time).FromDatetime(row[time])
    return key


def name_of(id: UUID) -> str:
    return f"keys/{id}"


def id_of(name: str) -> UUID | None:
    """None for what names no key."""
    found = NAME.fullmatch(name)
    return UUID(found[1]) if found else None
