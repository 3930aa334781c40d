"""What an OAuth client may ask of the development issuer, and what it is given. No HTTP here.

The authorization code flow with PKCE (S256 alone), then refresh tokens that turn with each use: RFC 6749, 7636, 9700.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from services.common.clock import Clock, new_id
from services.common.errors import Refusal
from services.common.tokens import SigningKey

CLIENT, SCOPE = "soma-web", "openid"
ACCESS_S, REFRESH_S, CODE_S = 300, 12 * 3600, 60
REUSE_S = 30
"""How long a refresh token that was used still works: two tabs, or an answer that was lost on its way."""
REMEMBERED = 1000
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class OAuthError(Exception):
    """An answer of RFC 6749: a code word for programs, a sentence for people."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


@dataclass(frozen=True, slots=True)
class Account:
    """A person who may sign in."""

    tenant: str
    person: str
    roles: tuple[str, ...]

    @property
    def subject(self) -> str:
        return f"{self.person}@{self.tenant}"

    @property
    def name(self) -> str:
        return f"{self.person.capitalize()} at {self.tenant.capitalize()}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A client's request to sign someone in."""

    redirect_uri: str
    challenge: str
    state: str
    nonce: str

    def answer(self, **parameters: str) -> str:
        """Where the browser goes next."""
        return f"{self.redirect_uri}?{urlencode({**parameters, **({'state': self.state} if self.state else {})})}"


def read_redirect(query: Mapping[str, str], origins: frozenset[str]) -> str:
    """Where answers may go. Whoever asks for another place gets no answer there, not even a refusal."""
    if query.get("client_id") != CLIENT:
        raise OAuthError(
            "unauthorized_client", "This is not how the page of this mesh asks. Start from the page itself."
        )
    redirect_uri = query.get("redirect_uri", "")
    if redirect_uri not in {f"{origin}/" for origin in origins}:
        raise OAuthError("invalid_request", "The address to return to is not this mesh's own. Start from its page.")
    return redirect_uri


def read_ask(query: Mapping[str, str], redirect_uri: str) -> Ask:
    """What is asked, once it is known where the answer may go."""
    if query.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "Ask for response_type=code.")
    if SCOPE not in query.get("scope", "").split():
        raise OAuthError("invalid_scope", f"Ask for scope={SCOPE}.")
    challenge = query.get("code_challenge", "")
    if query.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "Send a PKCE code_challenge, made with code_challenge_method=S256.")
    state, nonce = query.get("state", ""), query.get("nonce", "")
    if max(len(state), len(nonce)) > 512:
        raise OAuthError("invalid_request", "Shorten state and nonce to 512 characters.")
    if "none" in query.get("prompt", "").split():
        raise OAuthError("login_required", "Nobody is signed in here.")
    return Ask(redirect_uri, challenge, state, nonce)


@dataclass(frozen=True, slots=True)
class Grants:
    """Gives codes for sign-ins, and tokens for codes. Codes live in memory: a restart asks people to sign in again."""

    issuer: str
    audience: str
    key: SigningKey
    accounts: Callable[[], Mapping[str, Account]]
    """Who may sign in now, by subject."""
    clock: Clock
    codes: OrderedDict[str, Grant] = field(default_factory=OrderedDict)
    used: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """When each refresh token was first used."""

    def code(self, ask: Ask, account: Account) -> str:
        """A code for this sign-in: good once, for a minute."""
        code = secrets.token_urlsafe(32)
        keep(self.codes, code, Grant(ask, account, self._now() + CODE_S))
        return code

    def redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Tokens for a code. The code is spent even when the proof is wrong."""
        grant = self.codes.pop(form.get("code", ""), None)
        if grant is None or self._now() >= grant.expires:
            raise OAuthError("invalid_grant", "The code is unknown, used or older than a minute. Sign in again.")
        if form.get("client_id") != CLIENT or form.get("redirect_uri") != grant.ask.redirect_uri:
            raise OAuthError("invalid_grant", "The code was given to another client or address.")
        if not proves(form.get("code_verifier", ""), grant.ask.challenge):
            raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge.")
        return self._tokens(grant.account, grant.ask.nonce)

    def renew(self, form: Mapping[str, str]) -> dict[str, Any]:
        """New tokens for a refresh token, which is then used up."""
        if form.get("client_id") != CLIENT:
            raise OAuthError("invalid_client", f"Send client_id={CLIENT}.")
        try:
            claims = self.key.read(form.get("refresh_token", ""), self.issuer, self.issuer, self.clock)
        except Refusal as refusal:
            raise OAuthError("invalid_grant", refusal.message) from refusal
        account = self.accounts().get(claims["sub"])
        if account is None or claims.get("typ") != "refresh":
            raise OAuthError("invalid_grant", "This account is gone. Sign in again.")
        self._use(str(claims.get("jti")))
        return self._tokens(account, "")

    def _use(self, token_id: str) -> None:
        first = self.used.get(token_id)
        if first is not None and self._now() >= first + REUSE_S:
            raise OAuthError("invalid_grant", "This refresh token was used before. Sign in again.")
        if first is None:
            keep(self.used, token_id, self._now())

    def _tokens(self, account: Account, nonce: str) -> dict[str, Any]:
        now = int(self._now())
        common = {"iss": self.issuer, "sub": account.subject, "iat": now}
        refresh = common | {"aud": self.issuer, "typ": "refresh", "exp": now + REFRESH_S, "jti": str(new_id())}
        identity = common | {"aud": CLIENT, "name": account.name, "exp": now + ACCESS_S}
        return {
            "access_token": self.key.sign(access_claims(self.issuer, self.audience, account, ACCESS_S, self.clock)),
            "token_type": "Bearer",
            "expires_in": ACCESS_S,
            "refresh_token": self.key.sign(refresh),
            "id_token": self.key.sign(identity | ({"nonce": nonce} if nonce else {})),
            "scope": SCOPE,
        }

    def _now(self) -> float:
        return self.clock.now().timestamp()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code stands for."""

    ask: Ask
    account: Account
    expires: float


def access_claims(issuer: str, audience: str, account: Account, ttl_s: int, clock: Clock) -> dict[str, Any]:
    """What a person's token says to the rooms."""
    now = int(clock.now().timestamp())
    return {
        "iss": issuer, "aud": audience, "sub": account.subject, "name": account.name, "tenant": account.tenant,
        "roles": list(account.roles), "scope": SCOPE, "iat": now, "exp": now + ttl_s, "jti": str(new_id()),
    }  # fmt: skip


def proves(verifier: str, challenge: str) -> bool:
    """PKCE S256."""
    if not VERIFIER.fullmatch(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return secrets.compare_digest(digest, challenge)


def own_origins(issuer: str, further: str) -> frozenset[str]:
    """Where the issuer's own page is served: its origin, by each name of loopback, and those configured (words)."""
    where = urlsplit(issuer)
    port = f":{where.port}" if where.port else ""
    hosts = ("localhost", "127.0.0.1", "[::1]") if where.hostname == "localhost" else (where.netloc.removesuffix(port),)
    return frozenset(f"{where.scheme}://{host}{port}" for host in hosts) | frozenset(further.split())


def keep(kept: OrderedDict[str, Any], name: str, value: object) -> None:
    """Put it in; the oldest goes when there are too many."""
    kept[name] = value
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
