"""The issuer over HTTP, as an aiohttp application: the sign-in page, codes and tokens.

It serves the path of its issuer URL, so that the edge passes that path on unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Meta, field

from services.common.caller import TENANT
from services.common.clock import Clock
from services.common.config import Settings
from services.common.modes import Mode
from services.local.issuer.grants import (
    SCOPE,
    Account,
    Ask,
    Grants,
    OAuthError,
    own_origins,
    read_ask,
    read_redirect,
)
from services.local.issuer.key import open_key
from services.local.issuer.people import PEOPLE
from services.local.issuer.sign_in import Page, read_page

BODY_BYTES = 32 * 1024


class IssuerConfig(Settings, frozen=True, kw_only=True):
    mode: Mode = field(name="SOMAGENT_MODE")
    issuer: Annotated[str, Meta(pattern=r"^https?://[^/?#]+/[^?#]*[^/?#]$")]
    """`iss` of every token: the URL under which the edge serves it."""
    audience: str = "soma"
    listen: str = "127.0.0.1:0"
    issuer_dir: Path
    """Where the key is kept."""
    tenants: str = "acme globex"
    """Names, or the path of a file of names that is read for every page."""
    origins: str = ""
    """Further origins whose page may sign people in, such as a development server's."""


def demo_accounts(tenants: str) -> dict[str, Account]:
    """The demo accounts of each tenant, by subject. `tenants` is names, or the path of a file of names."""
    names = Path(tenants).read_text() if "/" in tenants and Path(tenants).exists() else tenants
    known = [name for name in names.replace(",", " ").split() if TENANT.fullmatch(name)]
    accounts = (Account(tenant, person, PEOPLE[person]) for tenant in dict.fromkeys(known) for person in PEOPLE)
    return {account.subject: account for account in accounts}


def issuer_app(config: IssuerConfig, clock: Clock) -> web.Application:
    """The provider as an aiohttp application, under the path of its issuer URL."""
    key = open_key(config.issuer_dir)
    grants = Grants(config.issuer, config.audience, key, lambda: demo_accounts(config.tenants), clock)
    page = read_page()
    desk = Desk(grants, own_origins(config.issuer, config.origins), page)
    path = urlsplit(config.issuer).path.rstrip("/")
    app = web.Application(middlewares=[plain_words(page)], client_max_size=BODY_BYTES)
    app.add_routes([
        web.get(f"{path}/.well-known/openid-configuration", desk.discovery),
        web.get(f"{path}/jwks", desk.jwks),
        web.get(f"{path}/authorize", desk.offer),
        web.post(f"{path}/authorize", desk.sign_in),
        web.post(f"{path}/token", desk.token),
        web.get(f"{path}/logout", desk.logout),
    ])  # fmt: skip
    return app


@dataclass(frozen=True, slots=True)
class Desk:
    """The provider's HTTP side: one method a path."""

    grants: Grants
    origins: frozenset[str]
    page: Page

    async def discovery(self, _: web.Request) -> web.Response:
        issuer = self.grants.issuer
        return web.json_response({
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "end_session_endpoint": f"{issuer}/logout",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "subject_types_supported": ["public"],
            "scopes_supported": [SCOPE],
            "prompt_values_supported": ["none", "login"],
        })  # fmt: skip

    async def jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self.grants.key.jwks(), headers={"cache-control": "max-age=60"})

    async def offer(self, request: web.Request) -> web.Response:
        """The page that offers the accounts."""
        redirect_uri = read_redirect(request.query, self.origins)
        try:
            read_ask(request.query, redirect_uri)
        except OAuthError as refusal:
            self._refuse(Ask(redirect_uri, "", request.query.get("state", "")[:512], ""), refusal)
        return self.page.offer(self.grants.accounts().values(), request.query, self.origins)

    async def sign_in(self, request: web.Request) -> web.Response:
        """An account was chosen: back to the client with a code."""
        if request.headers.get("origin", next(iter(self.origins))) not in self.origins:
            raise OAuthError("access_denied", "Another site sent you here. Start from the page itself.")
        form = {name: str(value) for name, value in (await request.post()).items()}
        ask = read_ask(form, read_redirect(form, self.origins))
        account = self.grants.accounts().get(form.get("account", ""))
        if account is None:
            self._refuse(ask, OAuthError("access_denied", "There is no such account."))
        raise web.HTTPSeeOther(ask.answer(code=self.grants.code(ask, account), iss=self.grants.issuer))

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        deeds = {"authorization_code": self.grants.redeem, "refresh_token": self.grants.renew}
        deed = deeds.get(form.get("grant_type", ""))
        if deed is None:
            return refuse_json(400, "unsupported_grant_type", f"Send grant_type: {' or '.join(deeds)}.")
        try:
            return web.json_response(deed(form), headers={"cache-control": "no-store"})
        except OAuthError as refusal:
            return refuse_json(400, refusal.error, refusal.description)

    async def logout(self, _: web.Request) -> web.Response:
        """Nothing is remembered here, so there is nothing to forget: back to the page."""
        raise web.HTTPSeeOther("/")

    def _refuse(self, ask: Ask, refusal: OAuthError) -> NoReturn:
        raise web.HTTPSeeOther(ask.answer(error=refusal.error, error_description=refusal.description))


def plain_words(page: Page) -> Middleware:
    """What goes wrong is said on a page; to a program that posts for a token, in OAuth's JSON."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except OAuthError as refusal:
            return page.refusal(400, refusal.description)
        except web.HTTPException as fault:
            if fault.status < 400:
                raise
            if request.path.endswith("/token"):
                return refuse_json(fault.status, "invalid_request", f"{fault.reason}.")
            return page.refusal(fault.status, f"{fault.reason}.")

    return answer


def refuse_json(status: int, error: str, description: str) -> web.Response:
    said = {"error": error, "error_description": description}
    return web.json_response(said, status=status, headers={"cache-control": "no-store"})
