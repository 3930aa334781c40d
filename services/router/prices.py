"""What models cost and how much they read, from the table that litellm ships. The package itself is never imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from services.router.offers import MILLION, Above, Price

PACKAGE = "litellm"
FILE = "model_prices_and_context_window_backup.json"
MODES = frozenset({"chat", "completion", "responses"})
IN, OUT = "input_cost_per_token", "output_cost_per_token"
READ, WRITTEN = "cache_read_input_token_cost", "cache_creation_input_token_cost"
LONG = re.compile(rf"({IN}|{OUT}|{READ}|{WRITTEN})_above_(\d+)k_tokens")


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the table."""

    price: Price
    window: int
    """0 when the table does not say."""
    capabilities: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by litellm's names: `gpt-4o`, `groq/openai/gpt-oss-20b`."""

    version: str
    listed: MappingProxyType[str, Listed]

    def find(self, model: str, provider: str) -> Listed | None:
        """The provider's own price, else that of the model at its maker. None when neither is in the table."""
        return self.listed.get(f"{provider}/{model}") or self.listed.get(model)


class Row(msgspec.Struct):
    mode: str | None = None
    input_cost_per_token: float | str | None = None
    output_cost_per_token: float | str | None = None
    max_input_tokens: int | str | None = None
    max_tokens: int | str | None = None
    cache_read_input_token_cost: float | str | None = None
    cache_creation_input_token_cost: float | str | None = None
    supports_function_calling: object = None
    supports_response_schema: object = None
    supports_vision: object = None
    supports_reasoning: object = None
    supports_adaptive_thinking: object = None
    supports_xhigh_reasoning_effort: object = None
    supports_native_structured_output: object = None
    supports_forced_tool_use: object = None
    supports_sampling_params: object = None


CAPABLE = {"supports_function_calling": "tools", "supports_response_schema": "json", "supports_vision": "vision"}
ABLE = {
    "supports_reasoning": "thinks",
    "supports_adaptive_thinking": "adaptive",
    "supports_xhigh_reasoning_effort": "xhigh",
    "supports_native_structured_output": "native_json",
}
UNABLE = {"supports_forced_tool_use": "no_forced_tools", "supports_sampling_params": "no_sampling"}


def price_table() -> PriceTable:
    """The table of the installed litellm; an empty one when litellm is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return PriceTable("none", MappingProxyType({}))
    return read_table(Path(spec.submodule_search_locations[0]) / FILE, f"{PACKAGE} {installed_version()}")


def known_price(model: str, provider: str, *, is_ours: bool = False) -> Price | None:
    """The price of a model in micro-USD per million tokens; None when it has to be given."""
    return billed(price_table().find(model, provider), is_ours=is_ours)


def billed(listed: Listed | None, *, is_ours: bool) -> Price | None:
    """The table's price. What it says to cost nothing is free on our own machines alone: elsewhere nobody knows."""
    return None if listed is None or (listed.price.is_free and not is_ours) else listed.price


def read_table(path: Path, name: str) -> PriceTable:
    """Read the models that answer in text and have both prices. ValueError or OSError when there is no such table."""
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])  # one at a time: all are 10 MB
        found = {model: listed for model, row in rows.items() if (listed := listed_of(*read_row(row)))}
    except msgspec.MsgspecError as fault:
        raise ValueError(f"{path} is no price table: {fault}") from fault
    return PriceTable(name, MappingProxyType(found))


def read_row(row: msgspec.Raw) -> tuple[Row, dict[str, Any]]:
    return msgspec.json.decode(row, type=Row), msgspec.json.decode(row, type=dict[str, Any])


def listed_of(row: Row, says: Mapping[str, Any]) -> Listed | None:
    """`says` is all of the row."""
    cost_in, cost_out = row.input_cost_per_token, row.output_cost_per_token
    if row.mode not in MODES or not isinstance(cost_in, float) or not isinstance(cost_out, float):
        return None
    if cost_in < 0 or cost_out < 0:
        return None
    cached, written = cache_price(row.cache_read_input_token_cost), cache_price(row.cache_creation_input_token_cost)
    price = Price(per_million(cost_in), per_million(cost_out), cached, written)
    price = replace(price, above=above_of(price, says))
    window = next((n for n in (row.max_input_tokens, row.max_tokens) if isinstance(n, int) and n > 0), 0)
    return Listed(
        price, window, flagged(row, CAPABLE, True), shared(flagged(row, ABLE, True) | flagged(row, UNABLE, False))
    )


def above_of(price: Price, says: Mapping[str, Any]) -> Above | None:
    """The price of long prompts; None where it is the same. Of several lengths the least, with the highest prices: too
    much is held rather than too little."""
    steps = [(key[1], int(key[2]) * 1000, cost_usd) for key, cost_usd in keyed(says)]
    if not steps:
        return None
    most: dict[str, int] = {}
    for kind, _, cost_usd in steps:
        most[kind] = max(most.get(kind, 0), per_million(cost_usd))
    long = Price(most.get(IN, price.price_in), most.get(OUT, price.price_out), most.get(READ), most.get(WRITTEN))
    return Above(min(tokens for _, tokens, _ in steps), long)


def keyed(says: Mapping[str, Any]) -> Iterator[tuple[re.Match[str], float]]:
    for name, value in says.items():
        if isinstance(value, float | int) and value >= 0 and (key := LONG.fullmatch(name)):
            yield key, value


def flagged(row: Row, names: Mapping[str, str], value: bool) -> frozenset[str]:
    """What the table says so of; what it is silent about is not there."""
    return shared(frozenset(ours for name, ours in names.items() if getattr(row, name) is value))


@cache
def shared(names: frozenset[str]) -> frozenset[str]:
    """The same set for equal ones: thousands of models have one of a few."""
    return names


def cache_price(usd_per_token: float | str | None) -> int | None:
    return per_million(usd_per_token) if isinstance(usd_per_token, float) and usd_per_token >= 0 else None


def per_million(usd_per_token: float) -> int:
    """Dollars a token as micro-USD a million tokens: 2.5e-06 is 2,500,000."""
    return round(usd_per_token * MILLION * MILLION)


def installed_version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"
