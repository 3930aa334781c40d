"""Whose key is whose: people's keys by tenant and name, kept in Postgres, wrapped. What is known here is forgotten
after a minute, so that a key that was forgotten is forgotten everywhere."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from services.common.sealing import SubjectKey
from services.common.wrapping import TenantKeys

KNOWN_S = 60.0
KNOWN = 20_000
SYSTEM = "system:"

FIND = "SELECT wrapped FROM soma.subjects WHERE tenant = $1 AND subject = $2"
FIND_BY_PSEUDONYM = "SELECT wrapped FROM soma.subjects WHERE tenant = $1 AND pseudonym = $2 AND wrapped IS NOT NULL"
MAKE = """
INSERT INTO soma.subjects (tenant, pseudonym, subject, wrapped) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, subject) WHERE subject IS NOT NULL DO NOTHING RETURNING true
"""


class Subjects:
    """Each method takes the connection that it may use. Keys made in a transaction count from its commit on."""

    def __init__(self, keys: TenantKeys) -> None:
        self._keys = keys
        self._known: OrderedDict[tuple[str, str], tuple[float, SubjectKey]] = OrderedDict()

    async def of(self, conn: Any, tenant: str, subject: str) -> SubjectKey | None:
        """The person's key, made when there is none. None for rooms: they are nobody."""
        if subject.startswith(SYSTEM):
            return None
        if known := self._remembered(tenant, subject):
            return known
        while True:
            if wrapped := await conn.fetchval(FIND, tenant, subject):
                return self._remember(subject, SubjectKey(tenant, await self._keys.unwrap(tenant, wrapped)))
            fresh = SubjectKey.new(tenant)
            wrapped = await self._keys.wrap(tenant, fresh.secret)
            if await conn.fetchval(MAKE, tenant, fresh.pseudonym, subject, wrapped):
                return fresh

    async def by_pseudonym(self, conn: Any, tenant: str, pseudonym: str) -> SubjectKey | None:
        """For those who may open what people wrote. None: forgotten, or never there."""
        wrapped = await conn.fetchval(FIND_BY_PSEUDONYM, tenant, pseudonym)
        return SubjectKey(tenant, await self._keys.unwrap(tenant, wrapped)) if wrapped else None

    def _remembered(self, tenant: str, subject: str) -> SubjectKey | None:
        until, key = self._known.get((tenant, subject), (0.0, None))
        return key if until > time.monotonic() else None

    def _remember(self, subject: str, key: SubjectKey) -> SubjectKey:
        self._known[key.tenant, subject] = (time.monotonic() + KNOWN_S, key)
        self._known.move_to_end((key.tenant, subject))
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return key
