"""Tenants' keys in Vault's transit engine, or OpenBao's: they never leave it. The one key of a tenant is soma-<tenant>.

SOMA_KEYS_URL is `vault+https://host:port/mount`. The token stands in the file that SOMA_VAULT_TOKEN_FILE names, or
`?token_file=` in the URL, and is read for each call, so that an agent may renew it. Its policy: `update` on
mount/encrypt/soma-* and mount/decrypt/soma-*, `create` and `update` on mount/keys/soma-*. It must not have `create` on
mount/encrypt/*: Vault would make a new key where one was lost. What `vault_signing` needs stands there.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from services.common.people.wrapping import KeyAway

CALL_S = 3.0


@dataclass(frozen=True, slots=True)
class Transit:
    """A mount of the transit engine."""

    session: aiohttp.ClientSession
    base: str
    """URL of the mount."""
    token_file: Path

    async def ask(self, path: str, body: Mapping[str, Any] | None, wanted: str = "") -> Any:
        """POST, or GET without a body. The part of `data` in the answer that is wanted. Raises KeyAway."""
        url = f"{self.base}/{path}"
        try:
            headers = {"X-Vault-Token": self.token_file.read_text().strip()}
            method = "GET" if body is None else "POST"
            async with self.session.request(method, url, json=body, headers=headers) as answer:
                said = await answer.read()
                if answer.status >= 300:
                    raise KeyAway(f"{url} answered {answer.status}: {said[:300].decode(errors='replace')}")
                return (await answer.json())["data"][wanted] if wanted else None
        except (aiohttp.ClientError, TimeoutError) as fault:
            raise KeyAway(f"Vault does not answer at {url}: {fault!r}") from fault
        except OSError as fault:
            raise KeyAway(f"Vault's token cannot be read from {self.token_file}: {fault.strerror}.") from fault
        except (ValueError, KeyError, TypeError) as fault:
            raise KeyAway(f"{url} answered with what Vault does not say.") from fault

    def decoded(self, text: Any) -> bytes:
        """Base64 of an answer. Raises KeyAway."""
        try:
            return base64.b64decode(str(text), validate=True)
        except binascii.Error as fault:
            raise KeyAway(f"Vault at {self.base} answered with what is no base64.") from fault


@dataclass(frozen=True, slots=True)
class VaultTenantKeys:
    """`wrapped` is Vault's own ciphertext, such as vault:v1:…, so that Vault may rotate its keys."""

    transit: Transit

    async def wrap(self, tenant: str, secret: bytes, *, is_first: bool) -> bytes:
        if is_first:
            await self.transit.ask(f"keys/soma-{tenant}", {"type": "aes256-gcm96"})  # leaves one that is there as it is
        body = {"plaintext": base64.b64encode(secret).decode()}
        return str(await self.transit.ask(f"encrypt/soma-{tenant}", body, "ciphertext")).encode()

    async def unwrap(self, tenant: str, wrapped: bytes) -> bytes:
        body = {"ciphertext": wrapped.decode(errors="replace")}
        return self.transit.decoded(await self.transit.ask(f"decrypt/soma-{tenant}", body, "plaintext"))


@asynccontextmanager
async def open_vault(url: str) -> AsyncIterator[VaultTenantKeys]:
    """Raises KeyAway without a token file, or for what is no such URL."""
    async with open_transit(url) as transit:
        yield VaultTenantKeys(transit)


@asynccontextmanager
async def open_transit(url: str) -> AsyncIterator[Transit]:
    """Raises KeyAway without a token file, or for what is no such URL."""
    parts = urlsplit(url.removeprefix("vault+"))
    named = parse_qs(parts.query).get("token_file", [os.environ.get("SOMA_VAULT_TOKEN_FILE", "")])[0]
    mount = parts.path.strip("/")
    if not named or not mount or not parts.netloc:
        message = f"SOMA_KEYS_URL is {url!r}: name host and mount, and the token's file in SOMA_VAULT_TOKEN_FILE."
        raise KeyAway(message)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_S)) as session:
        yield Transit(session, f"{parts.scheme}://{parts.netloc}/v1/{mount}", Path(named))
