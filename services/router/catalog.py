"""The catalogue: our own catalog.toml and the user's providers file, with the keys that are there. No network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.common.modes import Allowance
from services.router.entries import (
    WHOLE_KINDS,
    ModelEntry,
    ProviderEntry,
    Unreadable,
    built_in,
    is_here,
    merge,
    parse,
)
from services.router.offers import QUALITY, Offer, Price, Provider
from services.router.prices import Listed, PriceTable, billed

__all__ = ["Catalog", "Sources", "Unreadable"]

MOST_KEY_BYTES = 16 * 1024
UNKNOWN_WINDOW = 8192
UNKNOWN_CAPABILITIES = frozenset({"tools", "json"})
"""Of a model that the price table does not have: most have them, and one that has not says so."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What can be chosen from, as it was read at one moment."""

    offers: tuple[Offer, ...]
    prices: str
    """The price table's version."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a catalogue is made from."""

    mode: Allowance
    prices: PriceTable
    local_model_url: str = ""
    providers_file: Path | None = None
    secrets_dir: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    from_vault: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The secrets of `key_vault`, as they were fetched last."""
    embeddings_url: str = ""

    def read(self) -> Catalog:
        """The catalogue as the files stand now. Raises Unreadable for a broken providers file."""
        return self._catalog(merge(built_in(), self._users()))

    def read_ours(self) -> Catalog:
        """The catalogue without the user's providers."""
        return self._catalog(built_in())

    def references(self) -> Sequence[str]:
        """The `key_vault`s of the user's file as it stands; none while it is broken."""
        try:
            return [entry.key_vault for entry in self._users() if entry.key_vault]
        except Unreadable:
            return ()

    def _catalog(self, entries: Sequence[ProviderEntry]) -> Catalog:
        return Catalog(tuple(offer for entry in entries for offer in self._offers(entry)), self.prices.version)

    def _users(self) -> Sequence[ProviderEntry]:
        if self.providers_file is None or not self.providers_file.exists():
            return ()
        return parse(self.providers_file)

    def _offers(self, entry: ProviderEntry) -> Sequence[Offer]:
        if entry.kind == "scripted" and not self.mode.scripted_model:
            return ()
        ours = {"local": self.local_model_url, "minilm": self.embeddings_url}
        base_url = ours.get(entry.name, entry.base_url)
        provider = Provider(
            name=entry.name,
            kind=entry.kind,
            base_url=base_url.rstrip("/"),
            key=self._key(entry) if entry.needs_key else "",
            limits=entry.limits,
            asks_usage=entry.asks_usage,
            whole=entry.whole and entry.kind in WHOLE_KINDS,
            max_tokens_field=entry.max_tokens_field,
            jurisdictions=frozenset(entry.jurisdictions),
            litellm=entry.at_litellm if entry.kind == "litellm" else "",
        )
        closed, closed_by = closed_for(entry, provider, self.mode)
        return [offer_of(model, entry, provider, closed, closed_by, self.prices) for model in entry.model]

    def _key(self, entry: ProviderEntry) -> str:
        """From the provider's file, else from the variable or the secret store that the entry names."""
        found = read_key(self.secrets_dir, entry.name)
        if not found and entry.key_env:
            found = self.environment.get(entry.key_env, "").strip()
        if not found and entry.key_vault:
            found = self.from_vault.get(entry.key_vault, "").strip()
        return found if found.isprintable() and found.isascii() else ""


def closed_for(entry: ProviderEntry, provider: Provider, mode: Allowance) -> tuple[str, str]:
    """Why a provider cannot be used whatever is asked, and the filter that says so; both empty when it can."""
    if entry.kind == "scripted":
        return "", ""
    if not provider.base_url and entry.kind != "litellm":
        return f"No model server runs here for {entry.name}.", "health"
    if not mode.outside_providers and not is_here(provider.base_url):
        return "This mode calls no model beyond this machine.", "mode"
    if mode.self_hosted_only and not entry.is_self_hosted:
        return f"This mode calls self-hosted models alone, and {entry.name} is none.", "mode"
    if entry.needs_key and not provider.key:
        return (
            f"There is no key for {entry.name}. Add one: soma provider add {entry.name} … --key-env VARIABLE",
            "health",
        )
    return "", ""


def offer_of(
    model: ModelEntry, entry: ProviderEntry, provider: Provider, closed: str, closed_by: str, prices: PriceTable
) -> Offer:
    listed = listing(model, entry, prices)
    capabilities = listed.capabilities if listed else UNKNOWN_CAPABILITIES
    traits = listed.traits if listed else frozenset[str]()
    return Offer(
        provider=provider,
        model=model.name,
        tier=model.tier,
        price=price_of(model, listed, is_ours=entry.is_self_hosted or provider.is_here),
        window=model.window or (listed.window if listed else 0) or UNKNOWN_WINDOW,
        max_tokens=model.max_tokens,
        latency_ms=model.latency_ms,
        options=model.options,
        closed=closed,
        closed_by=closed_by,
        capabilities=capabilities if model.capabilities is None else frozenset(model.capabilities),
        quality=QUALITY[model.tier] if model.quality is None else model.quality,
        traits=traits if model.traits is None else frozenset(model.traits),
    )


def listing(model: ModelEntry, entry: ProviderEntry, prices: PriceTable) -> Listed | None:
    """What the price table says of the model."""
    if model.priced_as:
        return prices.listed.get(model.priced_as)
    return prices.find(model.name, entry.at_litellm if entry.kind == "litellm" else entry.name)


def price_of(model: ModelEntry, listed: Listed | None, *, is_ours: bool) -> Price | None:
    """The entry's own prices, else the table's; those of the cache one by one. `is_ours` says that the model runs on
    machines of ours."""
    known = billed(listed, is_ours=is_ours)
    if model.price_in is not None and model.price_out is not None:
        known = Price(model.price_in, model.price_out)
    if known is None:
        return None
    cached = known.price_cached if model.price_cached is None else model.price_cached
    written = known.price_cache_write if model.price_cache_write is None else model.price_cache_write
    return replace(known, price_cached=cached, price_cache_write=written)


def read_key(secrets_dir: Path | None, provider: str) -> str:
    """The key in the provider's file; empty when there is none."""
    if secrets_dir is None:
        return ""
    try:
        with (secrets_dir / provider).open("rb") as file:
            return file.read(MOST_KEY_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
