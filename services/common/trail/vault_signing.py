"""Keys that sign tree heads in Vault's transit engine, or OpenBao's: they never leave it. Each name has one transit
key, soma.local/audit/acme the key soma-audit-acme, whose versions are our keys.

Policy of the workers' token, beside what `vault` names: `create`, `update` and `read` on mount/keys/soma-audit-*,
`update` on mount/keys/soma-audit-*/rotate and on mount/sign/soma-audit-*. Nobody else needs any of it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.common.people.wrapping import KeyAway
from services.common.trail.checkpoint import Signature, tenant_of
from services.common.trail.signing import KeyGone, VerifierKey
from services.common.vault import Transit, open_transit


@dataclass(frozen=True, slots=True)
class VaultSigner:
    key: VerifierKey
    transit: Transit
    version: int

    async def sign(self, text: str) -> Signature:
        body = {"input": base64.b64encode(text.encode()).decode(), "key_version": self.version}
        said = str(await self.transit.ask(f"sign/{transit_name(self.key.name)}", body, "signature"))
        form, _, raw = said.rpartition(":")
        signature = Signature(self.key.name, self.key.id, self.transit.decoded(raw))
        if form != f"vault:v{self.version}" or not self.key.signed(text, signature):
            raise KeyAway(
                f"Vault at {self.transit.base} signed for {self.key.name} with another key than it was told to."
            )
        return signature


@dataclass(frozen=True, slots=True)
class VaultSigningKeys:
    transit: Transit

    async def make(self, name: str) -> VerifierKey:
        """A new version; of a new transit key the second. Versions of those who were cut off here stay unused."""
        path = f"keys/{transit_name(name)}"
        await self.transit.ask(path, {"type": "ed25519"})  # leaves one that is there as it is
        await self.transit.ask(f"{path}/rotate", {})
        versions = await self._versions(name)
        return VerifierKey(name, versions[max(versions)])

    async def signer(self, key: VerifierKey) -> VaultSigner:
        for version, raw in (await self._versions(key.name)).items():
            if raw == key.raw:
                return VaultSigner(key, self.transit, version)
        raise KeyGone(
            f"Vault at {self.transit.base} has no version of {transit_name(key.name)} that is {key.id.hex()}."
        )

    async def _versions(self, name: str) -> Mapping[int, bytes]:
        """Public keys by version."""
        told = await self.transit.ask(f"keys/{transit_name(name)}", None, "keys")
        try:
            return {int(version): self.transit.decoded(key["public_key"]) for version, key in told.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise KeyAway(f"{transit_name(name)} in Vault at {self.transit.base} is no Ed25519 key.") from fault


def transit_name(name: str) -> str:
    return f"soma-audit-{tenant_of(name)}"


@asynccontextmanager
async def open_vault_signing(url: str) -> AsyncIterator[VaultSigningKeys]:
    """Raises KeyAway like open_transit."""
    async with open_transit(url) as transit:
        yield VaultSigningKeys(transit)
