"""What a verifier refuses, what it remembers, and how it lives with an issuer that is away or turns its keys."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from services.common.errors import Refusal, Unauthenticated, Unavailable
from services.common.tokens import REMEMBERED, SigningKey, Verifier, open_verifier

ISSUER, AUDIENCE = "http://issuer.test/oidc", "soma"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class HandClock:
    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Issuer:
    """A JWKS endpoint that counts how often it is asked."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    body: bytes | None = None
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await self.awake.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return web.Response(body=body, content_type="application/json")

    @asynccontextmanager
    async def served(self, port: int = 0) -> AsyncIterator[Issuer]:
        app = web.Application()
        app.router.add_get("/jwks", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.awake.set()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
        try:
            yield self
        finally:
            await runner.cleanup()


def new_key() -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey.of_pem(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def claims(**changed: Any) -> dict[str, Any]:
    now = int(NOW.timestamp())
    made: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "member@acme", "tenant": "acme", "roles": ["member"]}
    made |= {"scope": "openid", "iat": now, "exp": now + 300, "jti": "1"} | changed
    return {name: value for name, value in made.items() if value is not None}


@dataclass
class Scene:
    """A verifier, the issuer that it trusts, that issuer's key, and the time."""

    verifier: Verifier
    issuer: Issuer
    key: SigningKey
    clock: HandClock

    def token(self, **changed: Any) -> str:
        return self.key.sign(claims(**changed))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    key, clock = new_key(), HandClock()
    async with (
        Issuer(key.jwks()["keys"]).served() as issuer,
        open_verifier(ISSUER, AUDIENCE, issuer.url, clock) as verifier,
    ):
        await verifier.caller(key.sign(claims()))
        clock.forward(10)
        yield Scene(verifier, issuer, key, clock)


async def refusal(verifier: Verifier, token: str, grace_s: int = 0) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await verifier.caller(token, grace_s)
    return caught.value


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_good_token_says_who_calls(scene: Scene) -> None:
    token = scene.token(jti="who")
    caller = await scene.verifier.caller(token)
    assert (caller.tenant, caller.subject, caller.roles, caller.scopes) == (
        "acme", "member@acme", frozenset({"member"}), frozenset({"openid"})
    )  # fmt: skip
    assert caller.token == token


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"aud": "another"}, "someone else"),
        ({"aud": None}, "someone else|no aud"),
        ({"iss": "http://evil.test"}, "another issuer"),
        ({"iss": None}, "another issuer|no iss"),
        ({"exp": None}, "no exp"),
        ({"exp": int(NOW.timestamp()) - 60}, "expired"),
        ({"exp": float("nan")}, "no time"),
        ({"exp": float("inf")}, "no time"),
        ({"exp": "tomorrow"}, "no time"),
        ({"exp": True}, "no time"),
        ({"nbf": int(NOW.timestamp()) + 60}, "not good yet"),
        ({"sub": None}, "no sub"),
        ({"sub": "system:agent"}, "no person"),
        ({"tenant": "../globex"}, "no tenant"),
        ({"tenant": None}, "no tenant"),
        ({"roles": "admin"}, "no list"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(scene: Scene, changed: dict[str, Any], says: str) -> None:
    refused = await refusal(scene.verifier, scene.token(**changed))
    assert isinstance(refused, Unauthenticated)
    assert refused.reason == "TOKEN_REFUSED"
    assert any(part in refused.message for part in says.split("|")), refused.message


async def test_a_token_without_signature_is_refused(scene: Scene) -> None:
    header = b64(json.dumps({"alg": "none", "kid": scene.key.jwk.key_id}).encode())
    payload = b64(json.dumps(claims()).encode())
    for token in (f"{header}.{payload}.", f"{header}.{payload}.{scene.token().rsplit('.', 1)[1]}"):
        assert (await refusal(scene.verifier, token)).reason == "TOKEN_REFUSED"


async def test_the_public_key_is_no_shared_secret(scene: Scene) -> None:
    public = scene.key.jwk.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    header = b64(json.dumps({"alg": "HS256", "kid": scene.key.jwk.key_id}).encode())
    signed = f"{header}.{b64(json.dumps(claims()).encode())}"
    forged = f"{signed}.{b64(hmac.digest(public, signed.encode(), 'sha256'))}"
    assert "not accepted" in (await refusal(scene.verifier, forged)).message


async def test_another_key_under_a_known_name_is_refused(scene: Scene) -> None:
    stranger = new_key()
    forged = jwt.encode(claims(), stranger.jwk.key, "ES256", headers={"kid": scene.key.jwk.key_id})
    assert "signature" in (await refusal(scene.verifier, forged)).message


async def test_a_changed_payload_is_refused(scene: Scene) -> None:
    header, _, signature = scene.token().split(".")
    payload = b64(json.dumps(claims(roles=["admin"])).encode())
    assert "signature" in (await refusal(scene.verifier, f"{header}.{payload}.{signature}")).message


async def test_a_critical_header_is_refused(scene: Scene) -> None:
    token = jwt.encode(claims(), scene.key.jwk.key, "ES256", headers={"kid": scene.key.jwk.key_id, "crit": ["b64"]})
    assert (await refusal(scene.verifier, token)).reason == "TOKEN_REFUSED"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "Bearer x", "é.é.é", "x" * 8193, "\x00"])
async def test_what_is_no_token_is_refused(scene: Scene, token: str) -> None:
    assert (await refusal(scene.verifier, token)).reason == "TOKEN_REFUSED"


async def test_an_unknown_key_is_refused_and_makes_few_fetches(scene: Scene) -> None:
    asked = scene.issuer.asked
    tokens = [new_key().sign(claims()) for _ in range(20)]
    refusals = await asyncio.gather(*(refusal(scene.verifier, token) for token in tokens))
    assert {refused.message for refused in refusals} == {"The token is signed with an unknown key. Sign in again."}
    assert scene.issuer.asked == asked + 1


async def test_rsa_and_edwards_keys_are_accepted_too(scene: Scene) -> None:
    for name, algorithm, private in (
        ("rsa", "RS256", rsa.generate_private_key(65537, 2048)),
        ("ed", "EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ):
        described = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
        scene.issuer.keys.append(described | {"kid": name})
        scene.clock.forward(10)
        token = jwt.encode(claims(), private, algorithm, headers={"kid": name})
        assert (await scene.verifier.caller(token)).tenant == "acme"


async def test_a_shared_secret_in_the_jwks_is_no_key(scene: Scene) -> None:
    secret = b"s" * 32
    scene.issuer.keys.append({"kty": "oct", "k": b64(secret), "kid": "oct", "alg": "HS256"})
    token = jwt.encode(claims(), secret, "HS256", headers={"kid": "oct"})
    assert (await refusal(scene.verifier, token)).reason == "TOKEN_REFUSED"


async def test_a_token_ends_five_seconds_after_its_expiry_also_when_remembered(scene: Scene) -> None:
    token = scene.token()
    scene.clock.time = NOW + timedelta(seconds=304)
    assert await scene.verifier.caller(token)
    scene.clock.forward(1)
    assert "expired" in (await refusal(scene.verifier, token)).message


async def test_grace_widens_the_expiry_and_nothing_else(scene: Scene) -> None:
    token = scene.token()
    scene.clock.time = NOW + timedelta(seconds=600)
    assert (await scene.verifier.caller(token, grace_s=300)).tenant == "acme"
    assert "expired" in (await refusal(scene.verifier, token, grace_s=200)).message
    assert "expired" in (await refusal(scene.verifier, token)).message
    early = scene.token(nbf=int(scene.clock.now().timestamp()) + 60)
    assert "not good yet" in (await refusal(scene.verifier, early, grace_s=300)).message


async def test_a_new_key_of_the_issuer_is_found_by_itself(scene: Scene) -> None:
    new = new_key()
    scene.issuer.keys += new.jwks()["keys"]
    assert await scene.verifier.caller(new.sign(claims()))


async def test_a_key_that_the_issuer_dropped_is_refused_also_for_remembered_tokens(scene: Scene) -> None:
    token, new = scene.token(), new_key()
    await scene.verifier.caller(token)
    scene.issuer.keys = new.jwks()["keys"]
    await scene.verifier.caller(new.sign(claims()))
    scene.clock.forward(10)
    assert "unknown key" in (await refusal(scene.verifier, token)).message


async def test_the_last_good_keys_stay_when_the_issuer_talks_rubbish(scene: Scene) -> None:
    for body in (b"", b"<html>", b"[]", b'{"keys": 3}', b"x" * 300_000):
        scene.issuer.body = body
        scene.clock.forward(10)
        await refusal(scene.verifier, new_key().sign(claims()))
        assert await scene.verifier.caller(scene.token(jti=str(len(body))))


async def test_rubbish_among_the_keys_leaves_the_good_ones(scene: Scene) -> None:
    new = new_key()
    scene.issuer.keys = [*new.jwks()["keys"], {}, {"kty": "EC", "kid": "x"}, {"kty": "RSA", "n": 1, "e": 2, "kid": "y"}]
    assert await scene.verifier.caller(new.sign(claims()))


async def test_the_issuer_may_start_after_the_room() -> None:
    key, clock, issuer = new_key(), HandClock(), Issuer()
    async with issuer.served():
        port = int(issuer.url.split(":")[2].split("/")[0])
    async with open_verifier(ISSUER, AUDIENCE, issuer.url, clock) as verifier:
        assert isinstance(await refusal(verifier, key.sign(claims())), Unavailable)
        issuer.keys = key.jwks()["keys"]
        async with issuer.served(port):
            clock.forward(10)
            assert await verifier.caller(key.sign(claims()))
        clock.forward(10)
        assert await verifier.caller(key.sign(claims(jti="2")))


async def test_an_issuer_that_hangs_costs_a_caller_seconds_not_minutes() -> None:
    async with Issuer().served() as issuer:
        issuer.awake.clear()
        began = time.monotonic()
        async with open_verifier(ISSUER, AUDIENCE, issuer.url, HandClock()) as verifier:
            assert isinstance(await refusal(verifier, new_key().sign(claims())), Unavailable)
        assert time.monotonic() - began < 10
        issuer.awake.set()


async def test_a_token_is_verified_once_and_memory_is_bounded(scene: Scene) -> None:
    token = scene.token()
    assert await scene.verifier.caller(token) is await scene.verifier.caller(token)
    for n in range(50):
        await scene.verifier.caller(scene.token(jti=str(n)))
    assert len(scene.verifier.remembered) <= REMEMBERED


async def test_the_oldest_remembered_token_goes_first(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.tokens.REMEMBERED", 3)
    first, *others = [scene.token(jti=str(n)) for n in range(4)]
    for token in (first, *others):
        await scene.verifier.caller(token)
    assert list(scene.verifier.remembered) == others
