"""Prices as data: integers of micro-USD per million tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import msgspec
import pytest

from services.router.catalog import offer_of
from services.router.decide import Moment, Question, Shape, decide, most_of, prepare
from services.router.entries import ModelEntry, ProviderEntry
from services.router.offers import Above, Figures, Offer, Price, Provider
from services.router.policies.rules import BUILT_IN
from services.router.prices import (
    Listed,
    PriceTable,
    Row,
    billed,
    known_price,
    listed_of,
    per_million,
    price_table,
    read_table,
)
from services.router.window import Size


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


LONG = {
    "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06, "cache_read_input_token_cost": 1e-07,
    "input_cost_per_token_above_200k_tokens": 2e-06, "output_cost_per_token_above_200k_tokens": 7.5e-06,
    "cache_read_input_token_cost_above_200k_tokens": 2e-07, "input_cost_per_token_above_200k_tokens_batches": 9.0,
    "input_cost_per_token_above_1hr": 9.0, "mode": "chat",
}  # fmt: skip


def long_price(**more: float) -> Price:
    listed = listed_of(msgspec.convert(LONG | more, Row), LONG | more)
    assert listed is not None
    return listed.price


def test_a_longer_prompt_costs_what_the_table_says_of_long_ones_with_its_answer() -> None:
    price = long_price()
    assert price.above == Above(200_000, Price(2_000_000, 7_500_000, 200_000))
    assert price.cost_microusd(200_000, 1000) == 200_000 + 5000
    assert price.cost_microusd(200_001, 1000) == 400_002 + 7500
    assert price.cost_microusd(300_000, 0, cached=100_000) == 400_000 + 20_000
    assert price.most_microusd(200_000, 1000) == 205_000
    assert price.most_microusd(200_001, 1000) == 407_502


def test_of_several_lengths_the_least_counts_with_the_highest_prices() -> None:
    price = long_price(input_cost_per_token_above_128k_tokens=1.5e-06, output_cost_per_token_above_128k_tokens=6e-06)
    assert price.above == Above(128_000, Price(2_000_000, 7_500_000, 200_000))


@pytest.mark.parametrize("tokens", [1000, 200_000, 200_001, 500_000])
def test_a_decision_holds_the_most_that_a_long_prompt_can_cost(tokens: int) -> None:
    price = long_price()
    long = Offer(Provider("acme", "openai"), "gpt-x", "standard", price, 1_000_000, 4000, 100)
    question = Question(Size((tokens,), tokens))
    decision = decide(question, prepare(Shape(), (long,), BUILT_IN), Moment(lambda _: Figures()), uuid4())
    assert decision.held_microusd == most_of(question, long).microusd == price.most_microusd(tokens, 4000)
    assert decision.estimated_cost_microusd == price.cost_microusd(tokens, 300)
    assert decision.held_microusd >= price.cost_microusd(tokens, 4000, tokens // 2)


def test_what_the_table_says_to_cost_nothing_is_free_on_machines_of_ours_alone(table: PriceTable) -> None:
    free = table.find("free", "acme")
    assert (billed(free, is_ours=False), billed(free, is_ours=True)) == (None, Price(0, 0))
    dear = table.find("gpt-x", "acme")
    assert billed(dear, is_ours=False) == billed(dear, is_ours=True) == Price(3_000_000, 4_000_000)
    assert billed(None, is_ours=True) is None


@pytest.mark.parametrize(("url", "price"), [("https://acme.test/v1", None), ("http://127.0.0.1:9/v1", Price(0, 0))])
def test_a_provider_elsewhere_is_never_taken_to_be_free(table: PriceTable, url: str, price: Price | None) -> None:
    model, entry = ModelEntry("free", "standard"), ProviderEntry("acme", url)
    offer = offer_of(model, entry, Provider("acme", "openai", url), "", "", table)
    assert offer.price == price
    given = offer_of(ModelEntry("free", "standard", 0, 0), entry, Provider("acme", "openai", url), "", "", table)
    assert given.price == Price(0, 0)


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
