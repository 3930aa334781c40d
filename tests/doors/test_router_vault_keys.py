"""Keys of providers out of Vault's key-value engine, as its documentation has the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from services.common.modes import ALLOWS, Mode
from services.router.catalog import Sources
from services.router.entries import Unreadable, parse
from services.router.prices import price_table
from services.router.shelf import Shelf
from services.router.vault_keys import VaultKeys


@dataclass
class FakeVault:
    secret: str = "sk-1"
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["X-Vault-Token"]))
        return web.json_response({"data": {"data": {"key": self.secret}, "metadata": {}}}, status=self.status)

    @property
    def reference(self) -> str:
        return f"vault+http://127.0.0.1:{self.port}/secret/soma/acme#key"


@pytest.fixture
async def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeVault]:
    (tmp_path / "token").write_text("hvs.1")
    monkeypatch.setenv("SOMA_VAULT_TOKEN_FILE", str(tmp_path / "token"))
    fake, application = FakeVault(), web.Application()
    application.router.add_get("/{path:.*}", fake.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.port = runner.addresses[0][1]
    yield fake
    await runner.cleanup()


async def test_a_key_in_vault_opens_its_provider_and_stays_while_vault_is_away(
    vault: FakeVault, tmp_path: Path
) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(
        f'[[provider]]\nname = "acme"\nbase_url = "http://127.0.0.1:1/v1"\nkey_vault = "{vault.reference}"\n'
        '[[provider.model]]\nname = "m"\ntier = "slm"\nprice_in = 1\nprice_out = 1\n'
    )
    keys = VaultKeys()
    sources = Sources(ALLOWS[Mode.DEVELOPER], price_table(), providers_file=file, from_vault=keys.secrets)
    shelf = Shelf(sources)

    def key() -> str:
        shelf.look()
        return next(offer.provider.key for offer in shelf.catalog.offers if offer.provider.name == "acme")

    assert key() == ""
    await keys.look(sources.references())
    assert (key(), vault.asked) == ("sk-1", [("/v1/secret/data/soma/acme", "hvs.1")])
    vault.status = 503
    await keys.look(sources.references())
    assert key() == "sk-1"
    vault.status, vault.secret = 200, "sk-2"
    await keys.look(sources.references())
    assert key() == "sk-2"


BROKEN = ("vault+https://[v/secret/a#b", "vault+https://v:x/secret/a#b", "vault+https://v:99999/secret/a#b")


@pytest.mark.parametrize("reference", BROKEN)
def test_a_reference_that_is_no_url_is_refused_with_its_line(tmp_path: Path, reference: str) -> None:
    file = tmp_path / "providers.toml"
    file.write_text(f'[[provider]]\nname = "acme"\nbase_url = "http://127.0.0.1:1/v1"\nkey_vault = "{reference}"\n')
    with pytest.raises(Unreadable, match=r"line 4, provider\[0\]\.key_vault"):
        parse(file)


async def test_what_is_no_url_keeps_no_other_key_away(vault: FakeVault) -> None:
    keys = VaultKeys()
    await keys.look([*BROKEN, vault.reference])
    assert keys.secrets == {vault.reference: "sk-1"}


async def test_a_secret_without_the_field_is_none_and_is_never_printed(vault: FakeVault) -> None:
    keys = VaultKeys()
    await keys.look([vault.reference, vault.reference + "x", "vault+http://127.0.0.1:1/secret/x#key"])
    assert keys.secrets == {vault.reference: "sk-1"}
    assert "sk-1" not in repr(keys)
