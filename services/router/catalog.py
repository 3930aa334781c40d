"""The catalogue: our own catalog.toml and the user's providers file, with the keys that are there. No network."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from services.common.modes import Allowance
from services.router.offers import USUAL, Limits, Offer, Price, Provider
from services.router.prices import PriceTable
from soma.common.v1.model_pb2 import Decision

MOST_FILE_BYTES = 1024 * 1024
MOST_KEY_BYTES = 16 * 1024
MOST_PROVIDERS = 256
OURS = frozenset({"local", "scripted"})
UNKNOWN_WINDOW = 8192

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Money = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**8)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[provider.model]] of a catalogue file."""

    name: Text
    tier: Literal["premium", "standard", "slm"]
    price_in: Money | None = None
    price_out: Money | None = None
    window: Count | None = None
    max_tokens: Count = 4096
    latency_ms: Count = 800
    priced_as: str = ""
    options: dict[str, str | int | float | bool] = {}


class ProviderEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[provider]] of a catalogue file."""

    name: Name
    base_url: str = ""
    kind: Literal["openai", "scripted"] = "openai"
    needs_key: bool = True
    asks_usage: bool = True
    max_tokens_field: Text = "max_tokens"
    running: Count = USUAL.running
    queued: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = USUAL.queued
    queue_s: Seconds = USUAL.queue_s
    first_text_s: Seconds = USUAL.first_text_s
    idle_s: Seconds = USUAL.idle_s
    total_s: Seconds = USUAL.total_s
    model: tuple[ModelEntry, ...] = ()

    @property
    def limits(self) -> Limits:
        return Limits(self.running, self.queued, self.queue_s, self.first_text_s, self.idle_s, self.total_s)


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: Annotated[tuple[ProviderEntry, ...], msgspec.Meta(max_length=MOST_PROVIDERS)] = ()


class Unreadable(Exception):  # noqa: N818 - a sentence for the log
    """A catalogue file that cannot be used. Its text says where and why."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What can be chosen from, as it was read at one moment."""

    offers: tuple[Offer, ...]
    prices: str
    """The price table's version."""

    def chosen(self, decision: Decision) -> Offer:
        """The offer that the decision is for."""
        return next(offer for offer in self.offers if offer.key == (decision.provider, decision.model))


@dataclass(frozen=True, slots=True)
class Sources:
    """What a catalogue is made from."""

    mode: Allowance
    prices: PriceTable
    local_model_url: str = ""
    providers_file: Path | None = None
    secrets_dir: Path | None = None

    def read(self) -> Catalog:
        """The catalogue as the files stand now. Raises Unreadable for a broken providers file."""
        entries = merge(built_in(), self._users())
        offers = [offer for entry in entries for offer in self._offers(entry)]
        return Catalog(tuple(offers), self.prices.version)

    def read_ours(self) -> Catalog:
        """The catalogue without the user's providers."""
        offers = [offer for entry in built_in() for offer in self._offers(entry)]
        return Catalog(tuple(offers), self.prices.version)

    def _users(self) -> Sequence[ProviderEntry]:
        if self.providers_file is None or not self.providers_file.exists():
            return ()
        return check(parse(self.providers_file), self.providers_file)

    def _offers(self, entry: ProviderEntry) -> Sequence[Offer]:
        if entry.kind == "scripted" and not self.mode.scripted_model:
            return ()
        key = read_key(self.secrets_dir, entry.name) if entry.needs_key else ""
        base_url = self.local_model_url if entry.name == "local" else entry.base_url
        provider = Provider(
            name=entry.name,
            kind=entry.kind,
            base_url=base_url.rstrip("/"),
            key=key,
            limits=entry.limits,
            asks_usage=entry.asks_usage,
            max_tokens_field=entry.max_tokens_field,
        )
        closed = closed_for(entry, provider, self.mode)
        return [offer_of(model, provider, closed, self.prices) for model in entry.model]


def closed_for(entry: ProviderEntry, provider: Provider, mode: Allowance) -> str:
    """Why a provider cannot be used whatever is asked; empty when it can."""
    if entry.kind == "scripted":
        return ""
    if not provider.base_url:
        return f"No model server runs here for {entry.name}."
    if not mode.outside_providers and not is_here(provider.base_url):
        return "This mode calls no model beyond this machine."
    if entry.needs_key and not provider.key:
        return f"There is no key for {entry.name}. Add one: soma provider add {entry.name} … --key-env VARIABLE"
    return ""


def offer_of(model: ModelEntry, provider: Provider, closed: str, prices: PriceTable) -> Offer:
    listed = prices.listed.get(model.priced_as) if model.priced_as else prices.find(model.name, provider.name)
    price = listed.price if listed else None
    if model.price_in is not None and model.price_out is not None:
        price = Price(model.price_in, model.price_out)
    window = model.window or (listed.window if listed else 0) or UNKNOWN_WINDOW
    return Offer(
        provider=provider,
        model=model.name,
        tier=model.tier,
        price=price,
        window=window,
        max_tokens=model.max_tokens,
        latency_ms=model.latency_ms,
        options=model.options,
        closed=closed,
    )


def built_in() -> Sequence[ProviderEntry]:
    text = resources.files("services.router").joinpath("catalog.toml").read_text()
    return msgspec.convert(tomllib.loads(text), CatalogFile).provider


def parse(file: Path) -> Sequence[ProviderEntry]:
    """A catalogue file's providers. Raises Unreadable with a sentence that says where."""
    try:
        if file.stat().st_size > MOST_FILE_BYTES:
            raise Unreadable(f"{file} is larger than {MOST_FILE_BYTES:,} bytes.")
        return msgspec.convert(tomllib.loads(file.read_text()), CatalogFile).provider
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as fault:
        raise Unreadable(f"{file} is no catalogue: {fault}") from fault


def check(entries: Sequence[ProviderEntry], file: Path) -> Sequence[ProviderEntry]:
    for entry in entries:
        if entry.name in OURS:
            raise Unreadable(f"{file}: the name {entry.name} is taken by SomaAgent itself. Choose another.")
        if entry.kind == "openai" and not is_url(entry.base_url):
            raise Unreadable(f"{file}: {entry.name} has no base_url that begins with http:// or https://.")
    return entries


def merge(ours: Sequence[ProviderEntry], users: Sequence[ProviderEntry]) -> Sequence[ProviderEntry]:
    """Ours, then the user's. A provider of the same name is the user's, with the models of both; his win."""
    named = {entry.name: entry for entry in ours}
    for entry in users:
        known = named.get(entry.name)
        models = {model.name: model for model in (*(known.model if known else ()), *entry.model)}
        named[entry.name] = msgspec.structs.replace(entry, model=tuple(models.values()))
    return list(named.values())


def read_key(secrets_dir: Path | None, provider: str) -> str:
    """The key in the provider's file; empty when there is none."""
    if secrets_dir is None:
        return ""
    try:
        with (secrets_dir / provider).open("rb") as file:
            return file.read(MOST_KEY_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def is_url(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def is_here(url: str) -> bool:
    """The URL is of this machine's loopback."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
