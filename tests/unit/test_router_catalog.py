"""The catalogue: our file, the user's file, the keys that are there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from services.common.modes import ALLOWS, Mode
from services.router.catalog import Catalog, Sources, Unreadable
from services.router.offers import TIERS, Offer, Price
from services.router.prices import Listed, PriceTable, price_table
from services.router.shelf import Shelf

ACME = """
[[provider]]
name = "acme-ai"
base_url = "http://127.0.0.1:9999/v1"
kind = "openai"
  [[provider.model]]
  name = "gpt-x"
  tier = "standard"
  price_in = 150000
  price_out = 600000
  window = 128000
"""
PRICES = PriceTable("test 1", MappingProxyType({"known": Listed(Price(5, 6), 777)}))


def sources(folder: Path, text: str = "", mode: Mode = Mode.DEVELOPER, prices: PriceTable = PRICES) -> Sources:
    (folder / "secrets").mkdir(exist_ok=True)
    if text:
        (folder / "providers.toml").write_text(text)
    return Sources(ALLOWS[mode], prices, "http://127.0.0.1:1/v1", folder / "providers.toml", folder / "secrets")


def key(folder: Path, provider: str, value: str = "sk-1\n") -> None:
    (folder / "secrets" / provider).write_text(value)


def find(catalog: Catalog, provider: str, model: str) -> Offer:
    return next(offer for offer in catalog.offers if offer.key == (provider, model))


def test_our_own_catalogue_is_whole(tmp_path: Path) -> None:
    catalog = sources(tmp_path, prices=price_table()).read()
    assert {offer.tier for offer in catalog.offers} == set(TIERS)
    assert all(offer.price is not None for offer in catalog.offers), "a model of ours has no price"
    assert all(offer.window >= 4096 for offer in catalog.offers)
    assert len({offer.key for offer in catalog.offers}) == len(catalog.offers)
    assert catalog.prices.startswith("litellm ")


def test_a_provider_without_a_key_is_closed_with_that_sentence(tmp_path: Path) -> None:
    offer = find(sources(tmp_path).read(), "openai", "gpt-4o")
    assert offer.closed.startswith("There is no key for openai. Add one: soma provider add openai")


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_key_is_none(tmp_path: Path, value: str) -> None:
    from_files = sources(tmp_path)
    key(tmp_path, "openai", value)
    assert find(from_files.read(), "openai", "gpt-4o").closed.startswith("There is no key")


def test_a_key_opens_its_provider_and_is_never_printed(tmp_path: Path) -> None:
    from_files = sources(tmp_path)
    key(tmp_path, "openai", "sk-very-secret\n")
    offer = find(from_files.read(), "openai", "gpt-4o")
    assert (offer.closed, offer.provider.key) == ("", "sk-very-secret")
    assert "sk-very-secret" not in repr(offer)


def test_the_local_model_needs_no_key_but_a_server(tmp_path: Path) -> None:
    assert find(sources(tmp_path).read(), "local", "SmolLM2-135M-Instruct").closed == ""
    without = Sources(ALLOWS[Mode.DEVELOPER], PRICES)
    assert find(without.read(), "local", "SmolLM2-135M-Instruct").closed == "No model server runs here for local."


@pytest.mark.parametrize("mode", list(Mode))
def test_the_scripted_model_answers_in_test_mode_only(tmp_path: Path, mode: Mode) -> None:
    offers = sources(tmp_path, mode=mode).read().offers
    assert any(o.provider.name == "scripted" for o in offers) == (mode is Mode.TEST)


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("http://127.0.0.1:9999/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8/v1", True),
        ("https://api.acme.example/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://127.0.0.1.example/v1", False),
    ],
)
def test_a_mode_without_outside_providers_calls_this_machine_only(tmp_path: Path, url: str, is_open: bool) -> None:
    from_files = sources(tmp_path, ACME.replace("http://127.0.0.1:9999/v1", url), Mode.TEST)
    key(tmp_path, "acme-ai")
    assert (find(from_files.read(), "acme-ai", "gpt-x").closed == "") == is_open


def test_a_users_provider_stands_beside_ours(tmp_path: Path) -> None:
    from_files = sources(tmp_path, ACME)
    key(tmp_path, "acme-ai")
    catalog = from_files.read()
    offer = find(catalog, "acme-ai", "gpt-x")
    assert (offer.price, offer.window, offer.tier, offer.closed) == (Price(150_000, 600_000), 128_000, "standard", "")
    assert offer.provider.base_url == "http://127.0.0.1:9999/v1"
    assert len(catalog.offers) == len(from_files.read_ours().offers) + 1


def test_price_and_window_that_are_not_given_come_from_the_table(tmp_path: Path) -> None:
    text = ACME.replace("gpt-x", "known").replace("price_in = 150000", "").replace("window = 128000", "")
    offer = find(sources(tmp_path, text).read(), "acme-ai", "known")
    assert (offer.price, offer.window) == (Price(5, 6), 777)


def test_a_price_that_nobody_knows_is_none(tmp_path: Path) -> None:
    text = ACME.replace("price_in = 150000", "").replace("price_out = 600000", "").replace("window = 128000", "")
    offer = find(sources(tmp_path, text).read(), "acme-ai", "gpt-x")
    assert (offer.price, offer.window) == (None, 8192)


def test_a_users_models_join_those_of_a_provider_of_ours(tmp_path: Path) -> None:
    text = ACME.replace("acme-ai", "openai").replace("http://127.0.0.1:9999", "https://proxy.example")
    catalog = sources(tmp_path, text).read()
    assert {o.model for o in catalog.offers if o.provider.name == "openai"} == {"gpt-4o", "gpt-4o-mini", "gpt-x"}
    assert find(catalog, "openai", "gpt-4o").provider.base_url == "https://proxy.example/v1"


BROKEN = {
    "no toml": "[[provider",
    "not utf-8": "\udcff",
    "unknown field": ACME + '  colour = "red"\n',
    "unknown table": "[budget]\n",
    "bad tier": ACME.replace('"standard"', '"gold"'),
    "negative price": ACME.replace("150000", "-1"),
    "price with a point": ACME.replace("150000", "0.15"),
    "no name": ACME.replace('name = "acme-ai"', ""),
    "name with a path": ACME.replace("acme-ai", "../openai"),
    "no base_url": ACME.replace('base_url = "http://127.0.0.1:9999/v1"', ""),
    "base_url of no web": ACME.replace("http://", "file://"),
    "our own name": ACME.replace("acme-ai", "local"),
    "our own name too": ACME.replace("acme-ai", "scripted"),
    "too large": "#" + "x" * (1024 * 1024),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_says_where_and_why(tmp_path: Path, fault: str) -> None:
    from_files = sources(tmp_path)
    (tmp_path / "providers.toml").write_bytes(BROKEN[fault].encode("utf-8", "surrogateescape"))
    with pytest.raises(Unreadable, match=str(tmp_path / "providers.toml")):
        from_files.read()


TWO = (
    ACME
    + """
# another one
[[provider]]
name = "other"
base_url = "https://other.example/v1"
jurisdictions = ["eu"]

  [[provider.model]]
  name = "a"
  tier = "slm"
  [[provider.model]]
  name = "b"
  tier = "slm"
    [provider.model.options]
    temperature = 0.5
"""
)
WRONG = [
    (TWO.replace('"standard"', '"gold"'), 8, "provider[0].model[0].tier"),
    (TWO.replace("150000", '"cheap"'), 9, "provider[0].model[0].price_in"),
    (TWO.replace("600000", "-1"), 10, "provider[0].model[0].price_out"),
    (TWO.replace('"other"', '"Other!"'), 15, "provider[1].name"),
    (TWO.replace('name = "b"', 'name = ""'), 23, "provider[1].model[1].name"),
    (TWO.replace('name = "b"', 'name = "b c"'), 23, "provider[1].model[1].name"),
    (TWO.replace('name = "b"', 'name = "b\\n"'), 23, "provider[1].model[1].name"),
    (TWO.replace('name = "b"\n  tier = "slm"', 'name = "b"'), 22, "provider[1].model[1].tier"),
    (TWO.replace("temperature = 0.5", "temperature = [1]"), 25, "provider[1].model[1].options"),
    (TWO.replace('["eu"]', '["EU"]'), 17, "provider[1].jurisdictions[0]"),
    (TWO.replace('["eu"]', '["here"]'), 17, "provider[1].jurisdictions"),
    (TWO.replace("https://other", "ftp://other"), 16, "provider[1].base_url"),
    (TWO.replace('"other"', '"local"'), 15, "provider[1].name"),
    (TWO.replace('["eu"]', '["eu"]\ncolour = "red"'), 18, "provider[1].colour"),
    (TWO.replace('["eu"]', '["eu"]\nkey_env = "SOMA_DATABASE_URL"'), 18, "provider[1].key_env"),
    (TWO.replace('["eu"]', '["eu"]\nkey_vault = "https://v/secret/x"'), 18, "provider[1].key_vault"),
    (TWO.replace('["eu"]', '["eu"'), 19, "Unclosed array"),
]


@pytest.mark.parametrize(
    ("text", "line", "field"), WRONG, ids=[f"{n} {line} {field}" for n, (_, line, field) in enumerate(WRONG)]
)
def test_a_wrong_value_is_told_with_its_line_and_field(tmp_path: Path, text: str, line: int, field: str) -> None:
    with pytest.raises(Unreadable) as told:
        sources(tmp_path, text).read()
    assert f"line {line}" in str(told.value)
    assert field in str(told.value)


def test_a_broken_file_keeps_the_last_good_catalogue(tmp_path: Path) -> None:
    shelf = Shelf(sources(tmp_path, ACME))
    good = shelf.catalog
    (tmp_path / "providers.toml").write_text("[[provider")
    assert not shelf.look()
    assert shelf.catalog is good


def test_a_room_that_starts_with_a_broken_file_has_our_own_models(tmp_path: Path) -> None:
    from_files = sources(tmp_path, "[[provider")
    assert Shelf(from_files).catalog == from_files.read_ours()


def test_a_new_file_a_new_key_and_a_changed_key_are_seen_at_the_next_look(tmp_path: Path) -> None:
    from_files = sources(tmp_path)
    shelf = Shelf(from_files)
    assert not shelf.look()
    (tmp_path / "providers.toml").write_text(ACME)
    assert shelf.look()
    assert find(shelf.catalog, "acme-ai", "gpt-x").closed.startswith("There is no key")
    key(tmp_path, "acme-ai")
    assert shelf.look()
    assert find(shelf.catalog, "acme-ai", "gpt-x").closed == ""
    key(tmp_path, "acme-ai", "sk-2\n")
    os.utime(tmp_path / "secrets" / "acme-ai", ns=(1, 1))
    assert shelf.look()
    assert find(shelf.catalog, "acme-ai", "gpt-x").provider.key == "sk-2"
    (tmp_path / "providers.toml").unlink()
    assert shelf.look()
    assert shelf.catalog == from_files.read_ours()


def with_fields(fields: str) -> str:
    """ACME with more fields of the provider."""
    return ACME.replace('kind = "openai"', fields)


def test_a_key_comes_from_the_file_else_the_variable_else_the_vault(tmp_path: Path) -> None:
    reference = "vault+https://vault.example/secret/soma/acme#key"
    from_files = sources(tmp_path, with_fields(f'key_env = "ACME_KEY"\nkey_vault = "{reference}"'))
    both = replace(from_files, environment={"ACME_KEY": "sk-env\n"}, from_vault={reference: "sk-vault"})
    for chosen in (replace(both, environment={}), both):
        expected = "sk-env" if chosen.environment else "sk-vault"
        assert find(chosen.read(), "acme-ai", "gpt-x").provider.key == expected
        assert expected not in repr(chosen)
    key(tmp_path, "acme-ai", "sk-file")
    assert find(both.read(), "acme-ai", "gpt-x").provider.key == "sk-file"


@pytest.mark.parametrize("value", ["sk-1\nx-evil: 1", "sk-\u00e9", "sk-\x00"])
def test_a_key_that_would_break_a_header_is_none(tmp_path: Path, value: str) -> None:
    from_files = sources(tmp_path, ACME)
    key(tmp_path, "acme-ai", value)
    assert find(from_files.read(), "acme-ai", "gpt-x").closed_by == "health"


@pytest.mark.parametrize(
    ("fields", "is_open"),
    [
        ("", True),
        ("self_hosted = false", False),
        ('base_url = "https://gpu.acme.example/v1"', False),
        ('base_url = "https://gpu.acme.example/v1"\nself_hosted = true', True),
        ('kind = "litellm"', True),
    ],
)
def test_enterprise_calls_self_hosted_models_alone(tmp_path: Path, fields: str, is_open: bool) -> None:
    text = with_fields(fields)
    if "base_url" in fields:
        text = text.replace('base_url = "http://127.0.0.1:9999/v1"\n', "", 1)
    from_files = sources(tmp_path, text, Mode.PRODUCTION_ENTERPRISE)
    key(tmp_path, "acme-ai")
    key(tmp_path, "openai")
    catalog = from_files.read()
    offer = find(catalog, "acme-ai", "gpt-x")
    assert (offer.closed_by == "") == is_open
    assert is_open or offer.closed == "This mode calls self-hosted models alone, and acme-ai is none."
    assert find(catalog, "openai", "gpt-4o").closed_by == "mode"
    assert find(catalog, "local", "SmolLM2-135M-Instruct").closed == ""


def test_what_is_here_is_said_to_be_here_and_nothing_else(tmp_path: Path) -> None:
    offers = sources(tmp_path, ACME, Mode.TEST).read().offers
    assert {o.provider.name for o in offers if o.provider.is_here} == {"local", "minilm", "scripted"}


def test_capabilities_quality_and_cache_prices_come_from_entry_then_table(tmp_path: Path) -> None:
    listed = Listed(Price(5, 6, 1, 7), 777, frozenset({"vision"}), frozenset({"thinks"}))
    prices = PriceTable("test 1", MappingProxyType({"gpt-x": listed}))
    plain = ACME.replace("  price_in = 150000\n  price_out = 600000\n", "")
    offer = find(sources(tmp_path, plain, prices=prices).read(), "acme-ai", "gpt-x")
    assert (offer.price, offer.capabilities, offer.traits, offer.quality) == (
        Price(5, 6, 1, 7),
        frozenset({"vision"}),
        frozenset({"thinks"}),
        0.7,
    )
    own = plain + '  capabilities = ["tools"]\n  quality = 0.9\n  price_cached = 2\n  traits = []\n'
    offer = find(sources(tmp_path, own, prices=prices).read(), "acme-ai", "gpt-x")
    assert (offer.price, offer.capabilities, offer.traits, offer.quality) == (
        Price(5, 6, 2, 7),
        frozenset({"tools"}),
        frozenset(),
        0.9,
    )
    offer = find(sources(tmp_path, ACME).read(), "acme-ai", "gpt-x")
    assert (offer.capabilities, offer.price) == (frozenset({"tools", "json"}), Price(150_000, 600_000))


def test_a_provider_of_litellm_needs_no_url_and_is_priced_by_its_name_there(tmp_path: Path) -> None:
    text = """
[[provider]]
name = "bedrock-eu"
kind = "litellm"
litellm = "bedrock"
jurisdictions = ["eu"]
  [[provider.model]]
  name = "nova"
  tier = "slm"
"""
    prices = PriceTable("test 1", MappingProxyType({"bedrock/nova": Listed(Price(1, 2), 1000)}))
    from_files = sources(tmp_path, text, prices=prices)
    key(tmp_path, "bedrock-eu")
    offer = find(from_files.read(), "bedrock-eu", "nova")
    assert (offer.closed, offer.price, offer.provider.litellm) == ("", Price(1, 2), "bedrock")
    assert find(replace(from_files, mode=ALLOWS[Mode.TEST]).read(), "bedrock-eu", "nova").closed_by == "mode"


def test_our_claude_thinks_only_when_asked_and_can_be_made_to_call_a_tool(tmp_path: Path) -> None:
    offers = [o for o in sources(tmp_path, prices=price_table()).read().offers if o.provider.kind == "anthropic"]
    assert {o.tier for o in offers} == {"premium", "standard"}
    for offer in offers:
        assert offer.capabilities == {"tools", "json", "vision"}
        assert "thinks" in offer.traits and "no_forced_tools" not in offer.traits
        assert offer.price and offer.price.price_cached and offer.price.price_cache_write
