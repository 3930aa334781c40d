"""Who asks. Made here and nowhere else: from a verified token, or for a room's own work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import Unauthenticated

TENANT = re.compile(r"[a-z][a-z0-9_]{1,39}")
LONGEST_TEAM = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """A person of a tenant, or a room doing work that no person started."""

    tenant: str
    subject: str
    roles: frozenset[str]
    scopes: frozenset[str]
    token: str = ""
    """The verified JWT, to be passed along to the next room. Empty for a room's own work, and where a key came."""
    team: str = ""
    """Whose budget their calls fall under besides. Empty for none."""
    key: str = ""
    """The name of the API key that came instead of a token, "keys/…"."""
    models: frozenset[str] = frozenset()
    """The only models that the key may use. None: all."""

    @classmethod
    def system(cls, room: str, tenant: str) -> Caller:
        """The room itself, inside one tenant: ends orphaned turns, relays, seals. Nothing else."""
        return cls(tenant, f"system:{room}", frozenset(), frozenset())

    @classmethod
    def of_claims(cls, claims: Mapping[str, Any], token: str) -> Caller:
        """The person of a verified token: claims `tenant`, `sub`, `roles` (list), `scope` (words), `team`."""
        tenant, subject, roles = claims.get("tenant"), claims.get("sub"), claims.get("roles", [])
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise Unauthenticated("TOKEN_REFUSED", "The token names no tenant. Sign in again.")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or subject.startswith("system:"):
            raise Unauthenticated("TOKEN_REFUSED", "The token names no person. Sign in again.")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise Unauthenticated("TOKEN_REFUSED", "The token's roles are no list of names. Sign in again.")
        team = claims.get("team", "")
        if not isinstance(team, str) or len(team) > LONGEST_TEAM:
            raise Unauthenticated("TOKEN_REFUSED", "The token's team is no name. Sign in again.")
        scopes = frozenset(str(claims.get("scope", "")).split())
        return cls(tenant, subject, frozenset(roles), scopes, token, team)


WORKERS = Caller.system("workers", "")
"""What follows the log, in no tenant: in the tables that are the workers' own."""
