"""Whose key is whose: people's keys by tenant and name, kept in Postgres, wrapped. What is known here is forgotten
after a minute, so that a key that was forgotten is forgotten everywhere."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, TypeAlias

from services.common.people.sealing import SubjectKey
from services.common.people.wrapping import TenantKeys

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
        if is_room(subject):
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

    def known(self, tenant: str, subject: str) -> SubjectKey | None:
        """The person's key, if it is known here just now."""
        return self._remembered((tenant, subject))

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


def is_room(subject: str) -> bool:
    """Rooms are nobody, and have no keys."""
    return subject.startswith(SYSTEM)
