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


FORGET = """
UPDATE soma.subjects SET subject = NULL, wrapped = NULL, forget_time = now() WHERE tenant = $1 AND subject = $2
RETURNING pseudonym
"""


async def forget(conn: Any, tenant: str, subject: str) -> str | None:
    """Forget a person of a tenant, on the administrator's connection, outside of a transaction: what is sealed with
    their key is nobody's to open within a minute, in the log, in archives and in the audit trail, whose proofs hold all
    the same. Returns the pseudonym that stays in their events; None when nobody of that name has a key.

    If they come back they are somebody else. What rooms keep of them, their conversations, is deleted by them or by
    their rooms; this is about what is never rewritten. The key is wrapped, and its row is vacuumed here; copies of the
    database's pages, in its write-ahead log and in backups, go when those do.
    """
    async with conn.transaction():
        pseudonym: str | None = await conn.fetchval(FORGET, tenant, subject)
        if pseudonym is None:
            return None
        await acts.tell(conn, "subject.forgotten", f"subjects/{pseudonym}", tenant)
    await conn.execute("VACUUM soma.subjects")
    return pseudonym
