"""Whose key is whose: people's keys by tenant and name, kept in Postgres, wrapped. What is known here is forgotten
after a minute, so that a key that was forgotten is forgotten everywhere."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, TypeAlias

from services.common import acts
from services.common.sealing import SubjectKey
from services.common.wrapping import TenantKeys

KNOWN_S = 60.0
KNOWN = 20_000
SYSTEM = "system:"
VACUUM_S = 3600.0
"""How long going through a large table of a tenant may take."""

Known: TypeAlias = tuple[str, str | bytes]
"""A tenant, and the person's name or the key as it is wrapped."""

FIND = "SELECT wrapped, is_first FROM soma.key_of($1)"
KEEP = "SELECT soma.keep_key($1, $2, $3)"
FIND_UNDER = "SELECT soma.key_under($1, $2)"


class Subjects:
    """Each method takes the connection that it may use. What it may see there is in 003_subjects.sql. Raises KeyAway
    when the tenant's key cannot be used."""

    def __init__(self, keys: TenantKeys, known_s: float = KNOWN_S) -> None:
        self._keys, self._known_s = keys, known_s
        self._known: OrderedDict[Known, tuple[float, SubjectKey]] = OrderedDict()

    async def of(self, conn: Any, tenant: str, subject: str) -> SubjectKey | None:
        """The person's key, made when there is none, in the tenant's transaction. None for rooms: they are nobody.

        To be asked once a person and transaction: a key that is made counts from the commit on, and one that was made
        before in the same transaction would be remembered here even if that rolls back.
        """
        if subject.startswith(SYSTEM):
            return None
        if known := self._remembered((tenant, subject)):
            return known
        while True:
            found = await conn.fetchrow(FIND, subject)
            if found["wrapped"]:
                return self._remember((tenant, subject), await self._unwrapped(tenant, found["wrapped"]))
            fresh = SubjectKey.new(tenant)
            wrapped = await self._keys.wrap(tenant, fresh.secret, is_first=found["is_first"])
            if await conn.fetchval(KEEP, subject, fresh.pseudonym, wrapped):
                return fresh

    async def find(self, conn: Any, tenant: str, subject: str) -> SubjectKey | None:
        """The same without making one. Postgres is asked each time."""
        wrapped = (await conn.fetchrow(FIND, subject))["wrapped"]
        return await self._unwrapped(tenant, wrapped) if wrapped else None

    async def by_pseudonym(self, conn: Any, tenant: str, pseudonym: str) -> SubjectKey | None:
        """For those who may open what people wrote: workers, and the console in the tenant's transaction. Postgres is
        asked each time, and refuses others. None: forgotten, or never there."""
        wrapped = await conn.fetchval(FIND_UNDER, tenant, pseudonym)
        return await self._unwrapped(tenant, wrapped) if wrapped else None

    async def _unwrapped(self, tenant: str, wrapped: bytes) -> SubjectKey:
        if known := self._remembered((tenant, wrapped)):
            return known
        return self._remember((tenant, wrapped), SubjectKey(tenant, await self._keys.unwrap(tenant, wrapped)))

    def _remembered(self, place: Known) -> SubjectKey | None:
        until, key = self._known.get(place, (0.0, None))
        return key if until > time.monotonic() else None

    def _remember(self, place: Known, key: SubjectKey) -> SubjectKey:
        self._known[place] = (time.monotonic() + self._known_s, key)
        self._known.move_to_end(place)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return key


OWN_TABLES = "SELECT to_regclass($1) IS NOT NULL AS decisions, to_regclass($2) IS NOT NULL AS requests"
FORGET = """
UPDATE soma.subjects SET subject = NULL, wrapped = NULL, forget_time = now() WHERE tenant = $1 AND subject = $2
RETURNING pseudonym
"""


async def forget(conn: Any, tenant: str, subject: str) -> str | None:
    """Forget a person of a tenant, on the administrator's connection, outside of a transaction: what is sealed with
    their key is nobody's to open within a minute, in the log, in archives and in the audit trail, whose proofs hold all
    the same. Returns the pseudonym that stays in their events; None when nobody of that name has a key.

    What the router decided for them goes on under the pseudonym, and what their requests were answered with is deleted:
    both name the person beside turns that their events name. Their conversations do so too, until they are deleted by
    them or by their rooms. If they come back they are somebody else. The key is wrapped, and the rows are vacuumed
    here; copies of the database's pages, in its write-ahead log and in backups, go when those do.
    """
    async with conn.transaction():
        pseudonym: str | None = await conn.fetchval(FORGET, tenant, subject)
        if pseudonym is None:
            return None
        changed = await unname(conn, f"t_{tenant}", subject, pseudonym)
        await acts.tell(conn, "subject.forgotten", f"subjects/{pseudonym}", tenant)
    await conn.execute(f"VACUUM {', '.join(['soma.subjects', *changed])}", timeout=VACUUM_S)
    return pseudonym


async def unname(conn: Any, schema: str, subject: str, pseudonym: str) -> list[str]:
    """Take the person's name out of what rooms keep for themselves. Returns the tables."""
    decisions, requests = f"{schema}.decisions", f"{schema}.requests"
    found = await conn.fetchrow(OWN_TABLES, decisions, requests)
    if found["decisions"]:
        unnamed = f"UPDATE {decisions} SET subject = $2 WHERE subject = $1"  # noqa: S608 - the name of a schema
        await conn.execute(unnamed, subject, pseudonym, timeout=VACUUM_S)
    if found["requests"]:
        await conn.execute(f"DELETE FROM {requests} WHERE subject = $1", subject)  # noqa: S608 - the same
    return [table for table, is_there in ((decisions, found["decisions"]), (requests, found["requests"])) if is_there]
