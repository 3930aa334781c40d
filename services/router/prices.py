"""What models cost and how much they read, from the table that litellm ships. The package itself is never imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import msgspec

from services.router.offers import MILLION, Price

PACKAGE = "litellm"
FILE = "model_prices_and_context_window_backup.json"
MODES = frozenset({"chat", "completion", "responses"})


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the table."""

    price: Price
    window: int
    """0 when the table does not say."""


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


def price_table() -> PriceTable:
    """The table of the installed litellm; an empty one when litellm is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return PriceTable("none", MappingProxyType({}))
    return read_table(Path(spec.submodule_search_locations[0]) / FILE, f"{PACKAGE} {installed_version()}")


def known_price(model: str, provider: str) -> Price | None:
    """The price of a model in micro-USD per million tokens; None when it has to be given."""
    listed = price_table().find(model, provider)
    return listed.price if listed else None


def read_table(path: Path, name: str) -> PriceTable:
    """Read the models that answer in text and have both prices. ValueError or OSError when there is no such table."""
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=dict[str, Row])
    except msgspec.MsgspecError as fault:
        raise ValueError(f"{path} is no price table: {fault}") from fault
    return PriceTable(
        name, MappingProxyType({model: listed for model, row in rows.items() if (listed := listed_of(row))})
    )


def listed_of(row: Row) -> Listed | None:
    cost_in, cost_out = row.input_cost_per_token, row.output_cost_per_token
    if row.mode not in MODES or not isinstance(cost_in, float) or not isinstance(cost_out, float):
        return None
    if cost_in < 0 or cost_out < 0:
        return None
    price = Price(per_million(cost_in), per_million(cost_out))
    window = next((n for n in (row.max_input_tokens, row.max_tokens) if isinstance(n, int) and n > 0), 0)
    return Listed(price, window)


def per_million(usd_per_token: float) -> int:
    """Dollars a token as micro-USD a million tokens: 2.5e-06 is 2,500,000."""
    return round(usd_per_token * MILLION * MILLION)


def installed_version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"
