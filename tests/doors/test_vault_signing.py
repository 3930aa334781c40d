"""Keys that sign tree heads in Vault: over HTTP, against a Vault that speaks as its API's documentation does."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.people.wrapping import KeyAway
from services.common.trail.signing import KeyGone, SigningKeys, VerifierKey, open_signing_keys

NAME = "soma.local/audit/acme"
TEXT = "soma.local/audit/acme\n1\n"


@dataclass
class FakeVault:
    """The transit engine at mount `transit`: Ed25519 keys with versions, and signatures by them."""

    keys: dict[str, list[Ed25519PrivateKey]] = field(default_factory=dict)
    answers: dict[str, web.Response] = field(default_factory=dict)
    """What it says to a path, once, when it is not well."""

    async def create(self, request: web.Request) -> web.Response:
        assert (await request.json())["type"] == "ed25519"
        self.keys.setdefault(request.match_info["name"], [Ed25519PrivateKey.generate()])
        return web.Response(status=204)

    async def rotate(self, request: web.Request) -> web.Response:
        self.keys[request.match_info["name"]].append(Ed25519PrivateKey.generate())
        return web.Response(status=204)

    async def read(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.keys:
            return web.json_response({"errors": []}, status=404)
        keys = {
            str(version): {
                "creation_time": "2031-02-03T04:05:06Z",
                "name": "ed25519",
                "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
            }
            for version, key in enumerate(self.keys[name], start=1)
        }
        return web.json_response({"data": {"type": "ed25519", "latest_version": len(keys), "name": name, "keys": keys}})

    async def sign(self, request: web.Request) -> web.Response:
        asked, keys = await request.json(), self.keys[request.match_info["name"]]
        version = asked.get("key_version") or len(keys)
        raw = keys[version - 1].sign(base64.b64decode(asked["input"]))
        return web.json_response(
            {"data": {"signature": f"vault:v{version}:{base64.b64encode(raw).decode()}", "key_version": version}}
        )

    def app(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: object) -> web.StreamResponse:
            if request.headers.get("X-Vault-Token") != "hvs.good":
                return web.json_response({"errors": ["permission denied"]}, status=403)
            if request.path in self.answers:
                return self.answers.pop(request.path)
            return await handler(request)  # type: ignore[operator,no-any-return]

        app = web.Application(middlewares=[guard])
        app.router.add_post("/v1/transit/keys/{name}", self.create)
        app.router.add_get("/v1/transit/keys/{name}", self.read)
        app.router.add_post("/v1/transit/keys/{name}/rotate", self.rotate)
        app.router.add_post("/v1/transit/sign/{name}", self.sign)
        return app


@pytest_asyncio.fixture
async def vault() -> AsyncIterator[tuple[FakeVault, int]]:
    fake = FakeVault()
    runner = web.AppRunner(fake.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield fake, runner.addresses[0][1]
    await runner.cleanup()


@pytest_asyncio.fixture
async def fake(vault: tuple[FakeVault, int]) -> FakeVault:
    return vault[0]


@pytest_asyncio.fixture
async def keys(vault: tuple[FakeVault, int], tmp_path: Path) -> AsyncIterator[SigningKeys]:
    token = tmp_path / "token"
    token.write_text("hvs.good\n")
    async with open_signing_keys(f"vault+http://127.0.0.1:{vault[1]}/transit?token_file={token}") as keys:
        yield keys


async def test_each_key_is_a_version_that_goes_on_signing_beside_the_newer_ones(
    keys: SigningKeys, fake: FakeVault
) -> None:
    first, second = await keys.make(NAME), await keys.make(NAME)
    assert list(fake.keys) == ["soma-audit-acme"]
    assert first.raw != second.raw

    for key, other in ((first, second), (second, first)):
        signature = await (await keys.signer(key)).sign(TEXT)
        assert key.signed(TEXT, signature)
        assert not other.signed(TEXT, signature)


async def test_tenants_have_keys_of_their_own(keys: SigningKeys, fake: FakeVault) -> None:
    await keys.make(NAME)
    await keys.make("soma.local/audit/globex")
    assert sorted(fake.keys) == ["soma-audit-acme", "soma-audit-globex"]


async def test_a_key_that_vault_does_not_have_is_gone(keys: SigningKeys, fake: FakeVault) -> None:
    key = await keys.make(NAME)
    with pytest.raises(KeyGone, match="no version of soma-audit-acme"):
        await keys.signer(VerifierKey(NAME, bytes(32)))
    fake.keys.clear()
    with pytest.raises(KeyAway, match="404"):
        await keys.signer(key)


async def test_a_signature_by_another_version_is_not_taken(keys: SigningKeys, fake: FakeVault) -> None:
    key = await keys.make(NAME)
    signer = await keys.signer(key)
    fake.keys["soma-audit-acme"].reverse()
    with pytest.raises(KeyAway, match="another key"):
        await signer.sign(TEXT)


@pytest.mark.parametrize("path", ["/v1/transit/keys/soma-audit-acme", "/v1/transit/sign/soma-audit-acme"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, '{"errors":["Vault is sealed"]}'),
        (403, "{}"),
        (200, "{}"),
        (200, "no JSON"),
        (200, '{"data":{"keys":{"1":"aes"},"signature":"vault:v2:!"}}'),
        (200, '{"data":{"keys":{"1":{"public_key":"!"}},"signature":"vault:v2:AAAA"}}'),
    ],
)
async def test_a_vault_that_is_not_well_is_said(
    keys: SigningKeys, fake: FakeVault, path: str, status: int, body: str
) -> None:
    key = await keys.make(NAME)
    fake.answers[path] = web.Response(status=status, text=body, content_type="application/json")
    with pytest.raises(KeyAway) as refused:
        await (await keys.signer(key)).sign(TEXT)
    assert not isinstance(refused.value, KeyGone)
    assert key.signed(TEXT, await (await keys.signer(key)).sign(TEXT))
