"""The one door to pyjwt: people's tokens are verified here, against the keys their issuer publishes.

    async with open_verifier(config.issuer, config.audience, config.jwks_url, SystemClock()) as verifier:
        caller = await verifier.caller(token)

A token that was verified is remembered until it expires, so that a call costs microseconds. The issuer may be away at
the start and later: the last good keys stay good. A token signed by an unknown key makes the keys be fetched again,
every few seconds at most, however many such tokens come.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import jwt

from services.common.caller import Caller
from services.common.clock import Clock
from services.common.errors import Unauthenticated, Unavailable

ALGORITHMS = frozenset({"EdDSA", "ES256", "RS256"})
TOKEN_BYTES = 8192
LEEWAY_S = 5
REMEMBERED = 2048
FETCH_DEADLINE_S = 2.0
FETCH_BYTES = 256 * 1024
FETCH_APART_S = 3.0
REFRESH_S = 300.0

KeySet = Mapping[str, jwt.PyJWK]


@asynccontextmanager
async def open_verifier(issuer: str, audience: str, jwks_url: str, clock: Clock) -> AsyncIterator[Verifier]:
    """A verifier for the tokens of one issuer. Opens at once; the keys are fetched behind it and kept fresh."""
    keys = KeyRing(jwks_url, clock)
    keeping = asyncio.create_task(keys.keep_fresh(), name="issuer keys")
    try:
        yield Verifier(issuer, audience, clock, keys)
    finally:
        await ended(keeping)
        await ended(keys.fetching)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Says who sent a token, or refuses it."""

    issuer: str
    audience: str
    clock: Clock
    keys: KeyRing
    remembered: OrderedDict[str, Verified] = field(default_factory=OrderedDict)

    async def caller(self, token: str, grace_s: int = 0) -> Caller:
        """The token's person. `grace_s` widens the expiry alone. Waits only when the signing key is not known yet.

        Refuses with TOKEN_REFUSED; with ROOM_UNAVAILABLE while no key could ever be fetched.
        """
        verified = self.remembered.get(token)
        if verified is None or self.keys.current.get(verified.kid) is not verified.key:
            verified = await self._verify(token)
        check_expiry(verified.expires, self.clock.now(), grace_s)
        self._remember(token, verified)
        return verified.caller

    async def _verify(self, token: str) -> Verified:
        kid = key_id(token)
        key = self.keys.current.get(kid) or await self.keys.find(kid)
        claims = read_claims(token, key, self.issuer, self.audience)
        check_begin(claims, self.clock.now())
        return Verified(Caller.of_claims(claims, token), moment(claims, "exp"), kid, key)

    def _remember(self, token: str, verified: Verified) -> None:
        self.remembered[token] = verified
        self.remembered.move_to_end(token)
        while len(self.remembered) > REMEMBERED:
            self.remembered.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature was good, until when, and by which key."""

    caller: Caller
    expires: float
    kid: str
    key: jwt.PyJWK


def key_id(token: str) -> str:
    """Which key a token says it was signed with. Refuses what no issuer of ours would send, before any arithmetic."""
    if len(token) > TOKEN_BYTES:
        raise refused("The token is longer than 8 KiB")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as fault:
        raise refused("This is no token") from fault
    if header.get("alg") not in ALGORITHMS or "crit" in header or not isinstance(header.get("kid"), str):
        raise refused("The token is signed in a way that is not accepted here")
    return str(header["kid"])


def read_claims(token: str, key: jwt.PyJWK, issuer: str, audience: str) -> dict[str, Any]:
    """The claims of a token signed with `key` by `issuer` for `audience`. Times are not looked at."""
    options: jwt.types.Options = {
        "require": ["exp", "iss", "aud", "sub"],
        "verify_exp": False, "verify_nbf": False, "verify_iat": False,
    }  # fmt: skip
    try:
        return jwt.decode(token, key, [key.algorithm_name], options, audience=audience, issuer=issuer)
    except jwt.InvalidAudienceError as fault:
        raise refused("The token was made for someone else") from fault
    except jwt.InvalidIssuerError as fault:
        raise refused("The token comes from another issuer") from fault
    except jwt.MissingRequiredClaimError as fault:
        raise refused(f"The token has no {fault.claim}") from fault
    except (jwt.PyJWTError, ValueError) as fault:
        raise refused("The token's signature is wrong") from fault


def check_expiry(expires: float, now: datetime, grace_s: int) -> None:
    if now.timestamp() >= expires + LEEWAY_S + grace_s:
        raise refused("The token has expired")


def check_begin(claims: Mapping[str, Any], now: datetime) -> None:
    if "nbf" in claims and now.timestamp() < moment(claims, "nbf") - LEEWAY_S:
        raise refused("The token is not good yet")


def moment(claims: Mapping[str, Any], name: str) -> float:
    """A claim in seconds since 1970."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(f"The token's {name} is no time")
    return float(value)


def refused(why: str) -> Unauthenticated:
    return Unauthenticated("TOKEN_REFUSED", f"{why}. Sign in again.")


@dataclass(slots=True)
class KeyRing:
    """The issuer's public keys by id, as they were when it last answered."""

    url: str
    clock: Clock
    current: KeySet = field(default_factory=dict)
    fetched: bool = False
    """That the issuer has answered once."""
    tried: float = -math.inf
    """When it was last asked, in seconds since 1970."""
    fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> jwt.PyJWK:
        """The key named `kid`, fetched when it is not known and the last fetch is old enough."""
        await self._refresh(FETCH_APART_S)
        if kid in self.current:
            return self.current[kid]
        if not self.fetched:
            raise Unavailable("ROOM_UNAVAILABLE", "The sign-in service does not answer. Try again.", retry_after_s=1)
        raise refused("The token is signed with an unknown key")

    async def keep_fresh(self) -> None:
        """Fetch now and every few minutes, so that a key which the issuer dropped is dropped here too."""
        while True:
            await self._refresh(0)
            await asyncio.sleep(REFRESH_S if self.fetched else FETCH_APART_S / 3)

    async def _refresh(self, apart_s: float) -> None:
        """Fetch the keys, unless that was tried `apart_s` ago. All who ask meanwhile share one fetch."""
        if self.fetching is None:
            if abs(self.clock.now().timestamp() - self.tried) < apart_s:
                return
            self.fetching = asyncio.create_task(self._fetch(), name="fetch issuer keys")
        await asyncio.wait({self.fetching}, timeout=FETCH_DEADLINE_S)

    async def _fetch(self) -> None:
        try:
            document = await asyncio.to_thread(fetch, self.url)
            self.current = read_keys(self.current, document)
            self.fetched = True
        except (OSError, ValueError, http.client.HTTPException):
            pass  # The issuer is away, or answers with something else: the keys we have stay good.
        finally:
            self.tried, self.fetching = self.clock.now().timestamp(), None


async def ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})


def read_keys(known: KeySet, document: bytes) -> KeySet:
    """The keys of a JWKS that can sign tokens for us. One that is as before keeps its object: no token is forgotten."""
    listed = json.loads(document)
    if not isinstance(listed, dict) or not isinstance(listed.get("keys"), list):
        raise ValueError("no JWKS")  # noqa: TRY004 - what the bytes mean, not what they are
    keys: dict[str, jwt.PyJWK] = {}
    for described in listed["keys"]:
        key = public_key(described)
        if key is not None and key.key_id:
            before = known.get(key.key_id)
            keys[key.key_id] = before if before and same_key(before, key) else key
    return keys


def public_key(described: object) -> jwt.PyJWK | None:
    """A key of the kinds we accept, for signing; None for any other."""
    if not isinstance(described, dict) or described.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(described)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str) else None


def same_key(one: jwt.PyJWK, other: jwt.PyJWK) -> bool:
    return one.algorithm_name == other.algorithm_name and bool(one.key == other.key)


def fetch(url: str, deadline_s: float = FETCH_DEADLINE_S) -> bytes:
    """GET, in a worker thread: no proxy, no redirect, no more than FETCH_BYTES, over by the deadline.

    Not aiohttp: a room that talks to nobody else over HTTP need not hold it in memory.
    """
    where, end = urlsplit(url), time.monotonic() + deadline_s
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(where.hostname or "", where.port, timeout=deadline_s)) as connection:
        connection.request("GET", where.path or "/", headers={"accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{url} answered {answer.status}")
        body = bytearray()
        while chunk := answer.read1(16384):
            body += chunk
            if len(body) > FETCH_BYTES or time.monotonic() > end:
                raise OSError(f"{url} is too long or too slow")
        return bytes(body)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private ES256 key, for the one issuer that is ours: the development one. Rooms never hold one."""

    jwk: jwt.PyJWK

    @classmethod
    def of_pem(cls, pem: bytes) -> SigningKey:
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        described = dict(algorithm.to_jwk(algorithm.prepare_key(pem), as_dict=True))
        return cls(jwt.PyJWK(described | {"alg": "ES256", "kid": thumbprint(described)}))

    def jwks(self) -> dict[str, Any]:
        """The public half, as a JWKS."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.jwk.key.public_key(), as_dict=True)
        return {"keys": [public | {"alg": "ES256", "use": "sig", "kid": self.jwk.key_id}]}

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self.jwk.key, "ES256", headers={"kid": self.jwk.key_id})

    def read(self, token: str, issuer: str, audience: str, clock: Clock) -> dict[str, Any]:
        """The claims of a token that this key signed. Refuses like a Verifier."""
        if key_id(token) != self.jwk.key_id:
            raise refused("The token is signed with an unknown key")
        public = jwt.PyJWK(self.jwks()["keys"][0])
        claims = read_claims(token, public, issuer, audience)
        check_expiry(moment(claims, "exp"), clock.now(), grace_s=0)
        return claims


def thumbprint(described: Mapping[str, str]) -> str:
    """The name of an elliptic key by what it is (RFC 7638)."""
    members = {name: described[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
