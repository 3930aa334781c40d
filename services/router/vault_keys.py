"""Keys of providers that stand in Vault's key-value engine (version 2), fetched beside the calls, never on their way.

A `key_vault` is `vault+https://host:port/MOUNT/PATH#FIELD`. The token stands in the file that SOMA_VAULT_TOKEN_FILE
names; its policy needs `read` on MOUNT/data/PATH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.common.people.wrapping import KeyAway
from services.common.telemetry import log
from services.common.vault import open_transit

LOOK_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """The secrets as they were fetched last: while Vault is away they stay."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    async def look(self, references: Iterable[str]) -> None:
        for reference in references:
            try:
                self.secrets[reference] = await fetched(reference)
            except (KeyAway, ValueError) as away:  # ValueError: what is no URL
                log().warning("a provider's key cannot be fetched", reference=reference, problem=str(away))

    async def keep(self, references: Callable[[], Iterable[str]], every_s: float = LOOK_EVERY_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look(references())
            await asyncio.sleep(every_s)


async def fetched(reference: str) -> str:
    """The secret. Raises KeyAway when Vault is away, refuses, or has none."""
    url, _, name = reference.partition("#")
    parts = urlsplit(url.removeprefix("vault+"))
    mount, _, path = parts.path.strip("/").partition("/")
    async with open_transit(f"vault+{parts.scheme}://{parts.netloc}/{mount}") as vault:
        held = await vault.ask(f"data/{path}", None, "data")
    found = held.get(name) if isinstance(held, dict) else None
    if not isinstance(found, str):
        raise KeyAway(f"Vault has no field {name} at {mount}/{path}.")
    return found
