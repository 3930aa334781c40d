"""A catalogue file: what may stand in it, and the line of what may not. Pure but for reading the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from services.router.offers import USUAL, Limits

MOST_FILE_BYTES = 1024 * 1024
MOST_PROVIDERS = 256
OURS = frozenset({"local", "minilm", "scripted"})
CHECKED_KINDS = ("openai", "anthropic")
"""They are nowhere without a URL; litellm knows where its providers are."""
WHOLE_KINDS = ("openai", "anthropic")
"""Their wires know answers in one piece."""
HEADER = re.compile(r"\s*\[\[?\s*([a-z_.\s]+?)\s*\]\]?\s*(?:#.*)?$")
STEP = re.compile(r"([a-z_]+)(?:\[(\d+)\])?")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
ModelName = Annotated[str, msgspec.Meta(pattern=r"^[^\s\x00-\x1f\x7f]{1,256}\Z")]
"""Events list models with spaces between them."""
Money = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**8)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Place = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,16}$")]
Variable = Annotated[str, msgspec.Meta(pattern=r"^(?!SOMA)[A-Z_][A-Z0-9_]{0,127}$")]
"""Ours hold other secrets than a provider's."""
Reference = Annotated[str, msgspec.Meta(pattern=r"^vault\+https?://[^/#\s]+/[^/#\s]+/[^#\s]+#[^#\s]+$")]
Capability = Literal["tools", "json", "vision", "embeddings"]
Trait = Literal["thinks", "adaptive", "xhigh", "native_json", "no_forced_tools", "no_sampling", "tools_as_json"]


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[provider.model]] of a catalogue file."""

    name: ModelName
    tier: Literal["premium", "standard", "slm"]
    price_in: Money | None = None
    price_out: Money | None = None
    price_cached: Money | None = None
    price_cache_write: Money | None = None
    window: Count | None = None
    max_tokens: Count = 4096
    latency_ms: Count = 800
    priced_as: str = ""
    quality: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    capabilities: tuple[Capability, ...] | None = None
    traits: tuple[Trait, ...] | None = None
    options: dict[str, str | int | float | bool] = {}


class ProviderEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[provider]] of a catalogue file."""

    name: Name
    base_url: str = ""
    kind: Literal["openai", "anthropic", "litellm", "scripted"] = "openai"
    litellm: Text | None = None
    needs_key: bool = True
    key_env: Variable | None = None
    key_vault: Reference | None = None
    jurisdictions: tuple[Place, ...] = ()
    self_hosted: bool | None = None
    asks_usage: bool = True
    whole: bool = True
    max_tokens_field: Text = "max_tokens"
    running: Count = USUAL.running
    running_total: Count | None = None
    queued: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = USUAL.queued
    queue_s: Seconds = USUAL.queue_s
    connect_s: Seconds = USUAL.connect_s
    first_text_s: Seconds = USUAL.first_text_s
    idle_s: Seconds = USUAL.idle_s
    total_s: Seconds = USUAL.total_s
    model: tuple[ModelEntry, ...] = ()

    @property
    def limits(self) -> Limits:
        return Limits(
            running=self.running,
            running_total=self.running_total,
            queued=self.queued,
            queue_s=self.queue_s,
            connect_s=self.connect_s,
            first_text_s=self.first_text_s,
            idle_s=self.idle_s,
            total_s=self.total_s,
        )

    @property
    def at_litellm(self) -> str:
        return self.litellm or self.name

    @property
    def is_self_hosted(self) -> bool:
        """As the file says, else where its URL is of this machine."""
        return is_here(self.base_url) if self.self_hosted is None else self.self_hosted


class CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: Annotated[tuple[ProviderEntry, ...], msgspec.Meta(max_length=MOST_PROVIDERS)] = ()


class Unreadable(Exception):  # noqa: N818 - a sentence for the log
    """A catalogue file that cannot be used. Its text names file, line and field, and says why."""


def built_in() -> Sequence[ProviderEntry]:
    text = resources.files("services.router").joinpath("catalog.toml").read_text()
    return msgspec.convert(tomllib.loads(text), CatalogFile).provider


def parse(file: Path) -> Sequence[ProviderEntry]:
    """The user's providers. Raises Unreadable."""
    try:
        if file.stat().st_size > MOST_FILE_BYTES:
            raise Unreadable(f"{file} is larger than {MOST_FILE_BYTES:,} bytes.")
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise Unreadable(f"{file} cannot be read: {fault}") from fault
    try:
        entries = msgspec.convert(tomllib.loads(text), CatalogFile).provider
    except tomllib.TOMLDecodeError as fault:
        raise Unreadable(f"{file} is no catalogue: {fault}") from fault
    except RecursionError as fault:
        raise Unreadable(f"{file} is no catalogue: it is nested too deep.") from fault
    except msgspec.ValidationError as fault:
        path, what = path_of(str(fault))
        raise wrong(file, text, path, what) from fault
    check(entries, file, text)
    return entries


def check(entries: Sequence[ProviderEntry], file: Path, text: str) -> None:
    """What no single field can say. Raises Unreadable."""
    for i, entry in enumerate(entries):
        at = f"provider[{i}]"
        if entry.name in OURS or entry.kind == "scripted":
            raise wrong(file, text, f"{at}.name", "It is taken by SomaAgent itself. Choose another.")
        if (entry.base_url or entry.kind in CHECKED_KINDS) and not is_url(entry.base_url):
            raise wrong(file, text, f"{at}.base_url", "It must begin with http:// or https:// and name a host.")
        if entry.key_vault and not is_url(entry.key_vault.removeprefix("vault+").partition("#")[0]):
            raise wrong(file, text, f"{at}.key_vault", "It must be vault+https://host:port/MOUNT/PATH#FIELD.")
        if "here" in entry.jurisdictions and not is_here(entry.base_url):
            raise wrong(file, text, f"{at}.jurisdictions", "Only a base_url of this machine can be here.")


def wrong(file: Path, text: str, path: str, what: str) -> Unreadable:
    line = line_of(text, path)
    return Unreadable(f"{file}, line {line}, {path or 'the file'}: {what}")


def path_of(fault: str) -> tuple[str, str]:
    """Where and what, from msgspec's words: a field that is unknown, or is not there, is part of where."""
    what, _, at = fault.partition(" - at `$")
    path = at.rstrip("`").lstrip(".").replace("[...]", "")
    named = re.search(r"(?:unknown|required) field `([^`]+)`", what)
    if named:
        path = f"{path}.{named[1]}".lstrip(".")
    return path, f"{what}."


def line_of(text: str, path: str) -> int:
    """The line of the field, of its table where the field is not there, 1 where neither is found so."""
    steps = [(step[1], int(step[2] or 0)) for step in STEP.finditer(path)]
    field = re.compile(rf"\s*\"?{re.escape(steps[-1][0])}\"?\s*[.=]") if steps else None
    counts: dict[str, int] = {}
    at, header = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        found = HEADER.match(line)
        if found:
            at = found[1].replace(" ", "")
            counts = {name: n for name, n in counts.items() if not name.startswith(f"{at}.")}
            counts[at] = counts.get(at, -1) + 1
            if leads(at, counts, steps):
                header = number
        elif field and field.match(line) and leads(at, counts, steps) and depth_of(at) == len(steps) - 1:
            return number
    return header


def leads(at: str, counts: Mapping[str, int], steps: Sequence[tuple[str, int]]) -> bool:
    """The table `at`, of which there have been so many, is on the way of the steps."""
    taken = steps[: depth_of(at)]
    if ".".join(name for name, _ in taken) != at:
        return False
    names = [".".join(name for name, _ in taken[: i + 1]) for i in range(len(taken))]
    return all(counts.get(name, 0) == index for name, (_, index) in zip(names, taken, strict=True))


def depth_of(at: str) -> int:
    return at.count(".") + 1 if at else 0


def merge(ours: Sequence[ProviderEntry], users: Sequence[ProviderEntry]) -> Sequence[ProviderEntry]:
    """Ours, then the user's. A provider of the same name is the user's, with the models of both; his win."""
    named = {entry.name: entry for entry in ours}
    for entry in users:
        known = named.get(entry.name)
        models = {model.name: model for model in (*(known.model if known else ()), *entry.model)}
        named[entry.name] = msgspec.structs.replace(entry, model=tuple(models.values()))
    return list(named.values())


def is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_here(url: str) -> bool:
    """The URL is of this machine's loopback."""
    try:
        host = urlsplit(url).hostname or ""
        return ip_address(host).is_loopback if host != "localhost" else True
    except ValueError:
        return False
