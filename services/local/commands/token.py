"""`soma token`: a person's token, signed with the key of this machine's issuer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.local.fault import Fault
from services.local.issuer.people import PEOPLE
from services.local.stack import Stack, load_stack


def token(home: Path, tenant: str, person: str, roles: Sequence[str], ttl_s: int) -> str:
    """A JWT for `person@tenant`. Without roles the demo accounts have their own, anyone else is a member."""
    return mint(load_stack(home), tenant, person, roles, ttl_s)


def mint(stack: Stack, tenant: str, person: str, roles: Sequence[str] = (), ttl_s: int = 3600) -> str:
    from services.common.caller import TENANT
    from services.common.clock import SystemClock
    from services.local.issuer import key

    if not TENANT.fullmatch(tenant):
        raise Fault(f"{tenant!r} cannot be a tenant: use 2 to 40 of a-z, 0-9 and _, beginning with a letter.")
    chosen = tuple(roles) or PEOPLE.get(person, ("member",))
    return key.mint(stack.home / "issuer", stack.issuer, "soma", tenant, person, chosen, ttl_s, SystemClock())
