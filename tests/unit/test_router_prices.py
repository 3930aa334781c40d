"""Prices as data: integers of micro-USD per million tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from services.router.offers import Price
from services.router.prices import Listed, PriceTable, known_price, per_million, price_table, read_table


@pytest.mark.parametrize(
    ("usd", "micro"),
    [
        (0.0, 0),
        (2.5e-06, 2_500_000),
        (1.5e-07, 150_000),
        (6e-07, 600_000),
        (3e-08, 30_000),
        (1e-12, 1),
        (7.5e-08, 75_000),
    ],
)
def test_dollars_a_token_become_micro_dollars_a_million(usd: float, micro: int) -> None:
    assert per_million(usd) == micro


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "cost"),
    [(0, 0, 0), (1, 0, 1), (1_000_000, 0, 150_000), (0, 1_000_000, 600_000), (1000, 1000, 750), (7, 0, 2)],
)
def test_a_cost_is_whole_and_rounded_up(tokens_in: int, tokens_out: int, cost: int) -> None:
    assert Price(150_000, 600_000).cost_microusd(tokens_in, tokens_out) == cost


def test_a_free_model_costs_nothing() -> None:
    assert Price(0, 0).cost_microusd(10**9, 10**9) == 0


ROWS = {
    "gpt-x": {"mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "max_input_tokens": 1000},
    "acme/gpt-x": {"mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06, "max_tokens": 500},
    "free": {"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
    "painter": {"mode": "image_generation", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
    "half": {"mode": "chat", "input_cost_per_token": 1e-06},
    "below zero": {"mode": "chat", "input_cost_per_token": -1e-06, "output_cost_per_token": 2e-06},
    "sample_spec": {"mode": "one of: chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
    "cached": {
        "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
        "cache_read_input_token_cost": 1e-07, "cache_creation_input_token_cost": -1.0,
        "supports_vision": True, "supports_function_calling": False, "supports_response_schema": "yes",
        "supports_reasoning": True, "supports_sampling_params": False, "supports_forced_tool_use": True,
    },
    "wordy": {
        "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "max_input_tokens": "many",
    },
}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(ROWS))
    return read_table(file, "test 1")


def test_only_models_that_answer_in_text_with_both_prices_are_listed(table: PriceTable) -> None:
    assert set(table.listed) == {"gpt-x", "acme/gpt-x", "free", "cached", "wordy"}
    assert table.version == "test 1"


@pytest.mark.parametrize(
    ("provider", "listed"),
    [("acme", Listed(Price(3_000_000, 4_000_000), 500)), ("other", Listed(Price(1_000_000, 2_000_000), 1000))],
)
def test_a_providers_own_price_goes_before_the_makers(table: PriceTable, provider: str, listed: Listed) -> None:
    assert table.find("gpt-x", provider) == listed


def test_prices_of_the_cache_and_what_a_model_can_do_are_read(table: PriceTable) -> None:
    assert table.listed["cached"] == Listed(
        Price(1_000_000, 1_000_000, 100_000), 0, frozenset({"vision"}), frozenset({"thinks", "no_sampling"})
    )


COSTS = [(1000, 0, 0, 1000), (1000, 400, 0, 640), (1000, 0, 1000, 1250), (1000, 400, 600, 790), (10, 99, 99, 1)]


@pytest.mark.parametrize(("tokens", "cached", "written", "cost"), COSTS)
def test_tokens_of_a_cache_are_parts_of_the_input(tokens: int, cached: int, written: int, cost: int) -> None:
    price = Price(1_000_000, 0, 100_000, 1_250_000)
    assert price.cost_microusd(tokens, 0, cached, written) == cost
    assert cost <= price.most_microusd(tokens, 0)


def test_a_window_that_is_no_number_is_unknown(table: PriceTable) -> None:
    assert table.listed["wordy"].window == 0


@pytest.mark.parametrize("text", ["", "[]", '{"x": 7}', "{"])
def test_a_file_that_is_no_price_table_says_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="is no price table"):
        read_table(file, "test 1")


def test_the_installed_table_knows_common_models() -> None:
    table = price_table()
    assert table.version.startswith("litellm ")
    assert len(table.listed) > 1000
    assert known_price("gpt-4o-mini", "openai") == Price(150_000, 600_000, 75_000)
    assert known_price("openai/gpt-oss-20b", "groq") == Price(75_000, 300_000, 37_500)
    assert known_price("claude-sonnet-4-6", "anthropic") == Price(3_000_000, 15_000_000, 300_000, 3_750_000)
    assert known_price("a-model-that-nobody-has", "acme") is None


def test_without_litellm_no_price_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.prices.find_spec", lambda name: None)
    assert price_table() == PriceTable("none", MappingProxyType({}))


def test_litellm_is_never_imported() -> None:
    code = "import sys; from services.router.prices import known_price; known_price('gpt-4o', 'openai'); "
    code += "sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
