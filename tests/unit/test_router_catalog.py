"""The catalogue: our file, the user's file, the keys that are there."""

from __future__ import annotations

import os
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
