"""Tenants' keys in Vault: over HTTP, against a Vault that speaks as its API's documentation does."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common import vault
from services.common.people.wrapping import KeyAway, TenantKeys, open_tenant_keys
from services.local.ports import free_port

SECRET = bytes(range(32))


@dataclass
class FakeVault:
    """The transit engine at mount `transit`: keys, encrypt, decrypt. Encrypting does not make keys."""

    token: str = "hvs.good"
    keys: dict[str, bytes] = field(default_factory=dict)
    answer: web.Response | None = None
    """What it says to everything, when it is not well."""

    async def create(self, request: web.Request) -> web.Response:
        self.keys.setdefault(request.match_info["name"], secrets.token_bytes(32))
        return web.json_response({"data": {"type": (await request.json())["type"]}})

    async def encrypt(self, request: web.Request) -> web.Response:
        key = self.keys.get(request.match_info["name"])
        if key is None:
            return web.json_response({"errors": ["encryption key not found"]}, status=400)
        nonce, plaintext = secrets.token_bytes(12), base64.b64decode((await request.json())["plaintext"])
        closed = base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plaintext, None)).decode()
        return web.json_response({"data": {"ciphertext": f"vault:v1:{closed}", "key_version": 1}})

    async def decrypt(self, request: web.Request) -> web.Response:
        key = self.keys.get(request.match_info["name"])
        form, _, body = (await request.json())["ciphertext"].rpartition(":")
        try:
            raw = base64.b64decode(body)
            opened = AESGCM(key or bytes(32)).decrypt(raw[:12], raw[12:], None)
        except (InvalidTag, ValueError):
            opened = b""
        if key is None or form != "vault:v1" or not opened:
            return web.json_response({"errors": ["invalid ciphertext: unable to decrypt"]}, status=400)
        return web.json_response({"data": {"plaintext": base64.b64encode(opened).decode()}})

    def app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: object) -> web.StreamResponse:
            if self.answer is not None:
                answer, self.answer = self.answer, None
                return answer
            if request.headers.get("X-Vault-Token") != self.token:
                return web.json_response({"errors": ["permission denied"]}, status=403)
            return await handler(request)  # type: ignore[operator,no-any-return]

        app = web.Application(middlewares=[guard])
        app.router.add_post("/v1/transit/keys/{name}", self.create)
        app.router.add_post("/v1/transit/encrypt/{name}", self.encrypt)
        app.router.add_post("/v1/transit/decrypt/{name}", self.decrypt)
        return app


@dataclass(frozen=True, slots=True)
class Setting:
    fake: FakeVault
    keys: TenantKeys
    token_file: Path


@pytest_asyncio.fixture
async def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    fake, token_file, port = FakeVault(), tmp_path / "token", free_port()
    token_file.write_text("hvs.good\n")
    monkeypatch.setenv("SOMA_VAULT_TOKEN_FILE", str(token_file))
    runner = web.AppRunner(fake.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with open_tenant_keys(f"vault+http://127.0.0.1:{port}/transit") as keys:
        yield Setting(fake, keys, token_file)
    await runner.cleanup()


async def test_what_vault_wraps_for_a_tenant_it_unwraps_for_no_other(setting: Setting) -> None:
    keys = setting.keys
    wrapped = await keys.wrap("acme", SECRET, is_first=True)
    await keys.wrap("globex", SECRET, is_first=True)
    assert sorted(setting.fake.keys) == ["soma-acme", "soma-globex"]
    assert wrapped.startswith(b"vault:v1:")
    assert await keys.unwrap("acme", wrapped) == SECRET
    assert await keys.unwrap("acme", await keys.wrap("acme", SECRET, is_first=True)) == SECRET, "the key stays"
    with pytest.raises(KeyAway, match="invalid ciphertext"):
        await keys.unwrap("globex", wrapped)


async def test_a_key_that_vault_lost_is_not_made_anew_where_people_have_keys(setting: Setting) -> None:
    await setting.keys.wrap("acme", SECRET, is_first=True)
    setting.fake.keys.clear()
    with pytest.raises(KeyAway, match="key not found"):
        await setting.keys.wrap("acme", SECRET, is_first=False)


async def test_a_token_is_read_anew_and_a_wrong_one_is_said(setting: Setting) -> None:
    wrapped = await setting.keys.wrap("acme", SECRET, is_first=True)
    setting.fake.token = "hvs.next"
    with pytest.raises(KeyAway, match="403") as refused:
        await setting.keys.unwrap("acme", wrapped)
    assert "hvs." not in str(refused.value)
    setting.token_file.write_text("hvs.next")
    assert await setting.keys.unwrap("acme", wrapped) == SECRET
    setting.token_file.unlink()
    with pytest.raises(KeyAway, match="token"):
        await setting.keys.unwrap("acme", wrapped)


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, '{"errors":["Vault is sealed"]}'), (200, "{}"), (200, "no JSON"), (200, '{"data":{"plaintext":"!"}}')],
)
async def test_a_vault_that_is_not_well_is_said(setting: Setting, status: int, body: str) -> None:
    setting.fake.answer = web.Response(status=status, text=body, content_type="application/json")
    with pytest.raises(KeyAway):
        await setting.keys.unwrap("acme", b"vault:v1:AAAA")


@pytest.mark.usefixtures("setting")
async def test_a_vault_that_is_away_or_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "CALL_S", 0.5)
    async with (
        await asyncio.start_server(lambda *_: None, "127.0.0.1", silent := free_port()),
        open_tenant_keys(f"vault+http://127.0.0.1:{silent}/transit") as slow,
        open_tenant_keys(f"vault+http://127.0.0.1:{free_port()}/transit") as gone,
        asyncio.timeout(20),
    ):
        for keys in (slow, gone):
            with pytest.raises(KeyAway, match="does not answer"):
                await keys.unwrap("acme", b"vault:v1:AAAA")


async def test_a_way_without_mount_or_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOMA_VAULT_TOKEN_FILE", raising=False)
    for url in ("vault+https://vault:8200/transit", "vault+https://vault:8200/?token_file=/t"):
        with pytest.raises(KeyAway, match="SOMA_KEYS_URL"):
            async with open_tenant_keys(url):
                pass
