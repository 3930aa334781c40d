"""Tenants' keys, which wrap their people's: in files here, in a KMS by the same two words elsewhere (`vault`)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.caller import TENANT
from services.common.files import keep

KEY_BYTES, NONCE_BYTES = 32, 12


class TenantKeys(Protocol):
    """Wraps and unwraps 32 bytes for a tenant. What is wrapped for one tenant is of no use to another. Both raise
    KeyAway."""

    async def wrap(self, tenant: str, secret: bytes, *, is_first: bool) -> bytes:
        """`is_first`: nothing is wrapped for the tenant yet. Only then is its key made when there is none."""

    async def unwrap(self, tenant: str, wrapped: bytes) -> bytes: ...


class KeyAway(Exception):  # noqa: N818 - what has happened
    """A tenant's key cannot be used: missing, another one, out of reach. The text is for those who run the mesh."""


@dataclass(frozen=True, slots=True)
class FileTenantKeys:
    """One file a tenant in a folder that only its owner reads. Made when first asked for, by whoever is first."""

    folder: Path
    _known: dict[str, bytes] = field(default_factory=dict)

    async def wrap(self, tenant: str, secret: bytes, *, is_first: bool) -> bytes:
        nonce, file = secrets.token_bytes(NONCE_BYTES), self._file(tenant)
        if is_first and tenant not in self._known and not file.exists():
            make(file)
        return nonce + AESGCM(self._key(tenant)).encrypt(nonce, secret, tenant.encode())

    async def unwrap(self, tenant: str, wrapped: bytes) -> bytes:
        try:
            return AESGCM(self._key(tenant)).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], tenant.encode())
        except (InvalidTag, ValueError) as fault:
            self._known.pop(tenant, None)  # the right one may be put in its place
            message = f"{self._file(tenant)} is not the key that wrapped the keys of {tenant}'s people. Put that back."
            raise KeyAway(message) from fault

    def _file(self, tenant: str) -> Path:
        if not TENANT.fullmatch(tenant):
            raise ValueError(f"{tenant[:80]!r} cannot be a tenant, and has no key.")
        return self.folder / f"{tenant}.key"

    def _key(self, tenant: str) -> bytes:
        if tenant not in self._known:
            self._known[tenant] = read(self._file(tenant))
        return self._known[tenant]


def make(file: Path) -> None:
    """32 bytes of chance. Whoever is first makes the key that counts."""
    try:
        with suppress(FileExistsError):
            keep(file, secrets.token_bytes(KEY_BYTES))
    except OSError as fault:
        raise KeyAway(f"{file} cannot be made: {fault.strerror}.") from fault


def read(file: Path) -> bytes:
    try:
        key = file.read_bytes()
    except FileNotFoundError as fault:
        raise KeyAway(f"{file} is missing, and keys of people are wrapped with it. Put it back.") from fault
    except OSError as fault:
        raise KeyAway(f"{file} cannot be read: {fault.strerror}.") from fault
    if len(key) != KEY_BYTES:
        raise KeyAway(f"{file} holds {len(key)} bytes; a key has {KEY_BYTES}. Put the right one back.")
    return key


@asynccontextmanager
async def open_tenant_keys(url: str) -> AsyncIterator[TenantKeys]:
    """`file:///folder`, or `vault+https://host:port/mount` as `vault` has it. ValueError for any other way."""
    way, _, rest = url.partition("://")
    if way == "file" and rest.startswith("/"):
        yield FileTenantKeys(Path(rest))
    elif way in ("vault+http", "vault+https") and rest:
        from services.common.vault import open_vault  # its library takes a while to load

        async with open_vault(url) as vault:
            yield vault
    else:
        raise ValueError(f"SOMA_KEYS_URL is {url!r}; it must be file:///folder or vault+https://host:port/mount.")
