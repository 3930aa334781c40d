"""Tenants' keys, which wrap their people's: in files here, in a KMS by the same three words elsewhere."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES = 32, 12


class TenantKeys(Protocol):
    """Wraps and unwraps 32 bytes for a tenant. What is wrapped for one tenant is of no use to another."""

    async def wrap(self, tenant: str, secret: bytes) -> bytes: ...

    async def unwrap(self, tenant: str, wrapped: bytes) -> bytes: ...


class CannotUnwrap(Exception):  # noqa: N818 - what the answer says
    """The tenant's key is another one, or the bytes were altered."""


@dataclass(frozen=True, slots=True)
class FileTenantKeys:
    """One file a tenant in a folder that only its owner reads. Made when first asked for, by whoever is first."""

    folder: Path
    _known: dict[str, bytes] = field(default_factory=dict)

    async def wrap(self, tenant: str, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._key(tenant)).encrypt(nonce, secret, tenant.encode())

    async def unwrap(self, tenant: str, wrapped: bytes) -> bytes:
        try:
            return AESGCM(self._key(tenant)).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], tenant.encode())
        except (InvalidTag, ValueError) as fault:
            message = f"The key of {tenant} in {self.folder} does not open what it should have wrapped."
            raise CannotUnwrap(message) from fault

    def _key(self, tenant: str) -> bytes:
        if tenant not in self._known:
            self._known[tenant] = kept(self.folder / f"{tenant}.key")
        return self._known[tenant]


def kept(file: Path) -> bytes:
    """The file's 32 bytes; made whole or not at all when there is none."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not file.exists():
        fresh = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
            writing.write(secrets.token_bytes(KEY_BYTES))
            writing.flush()
            os.fsync(writing.fileno())
        try:
            os.link(fresh, file)  # fails when somebody else was first: theirs counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    key = file.read_bytes()
    if len(key) != KEY_BYTES:
        raise CannotUnwrap(f"{file} does not hold {KEY_BYTES} bytes.")
    return key


def tenant_keys(url: str) -> TenantKeys:
    """`file:///folder`. ValueError for a way that is not known."""
    scheme, _, rest = url.partition("://")
    ways: Mapping[str, type[FileTenantKeys]] = {"file": FileTenantKeys}
    if scheme not in ways or not rest:
        raise ValueError(f"SOMA_KEYS_URL is {url!r}; it must be file:///folder.")
    return ways[scheme](Path(rest))
