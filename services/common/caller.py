"""Who asks. Made here and nowhere else: from a verified token, or for a room's own work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import Unauthenticated

TENANT = re.compile(r"[a-z][a-z0-9_]{1,39}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A person of a tenant, or a room doing work that no person started."""

    tenant: str
    subject: str
    roles: frozenset[str]
    scopes: frozenset[str]
    token: str = ""
    """The verified JWT, to be passed along to the next room. Empty for a room's own work."""

    @classmethod
    def system(cls, room: str, tenant: str) -> Caller:
        """The room itself, inside one tenant: ends orphaned turns, relays, seals. Nothing else."""
        return cls(tenant, f"system:{room}", frozenset(), frozenset())

    @classmethod
    def of_claims(cls, claims: Mapping[str, Any], token: str) -> Caller:
        """The person of a verified token: claims `tenant`, `sub`, `roles` (list), `scope` (words)."""
        tenant, subject, roles = claims.get("tenant"), claims.get("sub"), claims.get("roles", [])
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise Unauthenticated("TOKEN_REFUSED", "The token names no tenant. Sign in again.")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or subject.startswith("system:"):
            raise Unauthenticated("TOKEN_REFUSED", "The token names no person. Sign in again.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthenticated("TOKEN_REFUSED", "The token's roles are no list of names. Sign in again.")
        return cls(tenant, subject, frozenset(roles), frozenset(str(claims.get("scope", "")).split()), token)


WORKERS = Caller.system("workers", "")
"""What follows the log, in no tenant: in the tables that are the workers' own."""
