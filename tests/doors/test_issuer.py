"""The development issuer, as a browser and a program meet it: the code flow with PKCE, its refusals, and its tokens."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar
from aiohttp.test_utils import TestServer

from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.errors import Unauthenticated
from services.common.modes import Mode
from services.common.tokens import open_verifier
from services.local.issuer.app import IssuerConfig, issuer_app
from services.local.issuer.key import mint, open_key

ISSUER, HOME = "http://localhost:8080/oidc", "http://localhost:8080/"
VERIFIER = "a-verifier-that-is-long-enough-to-be-one-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@dataclass
class HandClock:
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Door:
    """The issuer from outside."""

    http: ClientSession
    url: str
    clock: HandClock

    def ask(self, **changed: str) -> dict[str, str]:
        asked = {"client_id": "soma-web", "redirect_uri": HOME, "response_type": "code", "scope": "openid"}
        asked |= {"state": "s&t=a te", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        return {name: value for name, value in (asked | changed).items() if value}

    async def authorize(self, **changed: str) -> ClientResponse:
        return await self.http.get(f"{self.url}/authorize", params=self.ask(**changed), allow_redirects=False)

    async def choose(self, account: str, origin: str = "http://localhost:8080", **changed: str) -> ClientResponse:
        form = self.ask(**changed) | {"account": account}
        return await self.http.post(
            f"{self.url}/authorize", data=form, headers={"origin": origin}, allow_redirects=False
        )

    async def code(self, account: str = "member@acme", **changed: str) -> str:
        answer = await self.choose(account, **changed)
        assert answer.status == 303
        return sent_back(answer)["code"]

    async def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        answer = await self.http.post(f"{self.url}/token", data={"client_id": "soma-web"} | form)
        assert answer.headers["cache-control"] == "no-store"
        return answer.status, await answer.json()

    async def redeem(self, code: str, **changed: str) -> tuple[int, dict[str, Any]]:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": HOME, "code_verifier": VERIFIER}
        return await self.token(**(form | changed))

    async def renew(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)

    async def verify(self, token: str) -> Caller:
        async with open_verifier(ISSUER, "soma", f"{self.url}/jwks", self.clock) as verifier:
            return await verifier.caller(token)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = HandClock()
    config = IssuerConfig(
        mode=Mode.DEVELOPER, issuer=ISSUER, issuer_dir=tmp_path / "issuer", tenants=str(tmp_path / "tenants")
    )
    (tmp_path / "tenants").write_text("acme\nglobex\n")
    async with (
        TestServer(issuer_app(config, clock)) as server,
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as http,
    ):
        yield Door(http, str(server.make_url("/oidc")), clock)


def sent_back(answer: ClientResponse) -> dict[str, str]:
    where = urlsplit(answer.headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == HOME
    return {name: values[0] for name, values in parse_qs(where.query).items()}


async def test_a_person_signs_in_and_the_rooms_know_who_it_is(door: Door) -> None:
    page = await (await door.authorize()).text()
    for account in (f"{person}@{tenant}" for person in ("admin", "auditor", "member") for tenant in ("acme", "globex")):
        assert f'value="{account}"' in page
    answer = await door.choose("admin@globex", nonce="n1")
    back = sent_back(answer)
    assert back["state"] == "s&t=a te"
    status, tokens = await door.redeem(back["code"])
    assert status == 200
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 300)
    caller = await door.verify(tokens["access_token"])
    assert (caller.tenant, caller.subject, caller.roles) == ("globex", "admin@globex", frozenset({"admin"}))
    assert caller.scopes == {"openid"}


async def test_only_the_access_token_opens_the_rooms(door: Door) -> None:
    _, tokens = await door.redeem(await door.code())
    for name in ("refresh_token", "id_token"):
        with pytest.raises(Unauthenticated, match="someone else"):
            await door.verify(tokens[name])
    for name in ("access_token", "id_token"):
        assert (await door.renew(tokens[name]))[1]["error"] == "invalid_grant"


async def test_a_code_is_good_once(door: Door) -> None:
    code = await door.code()
    assert (await door.redeem(code))[0] == 200
    assert (await door.redeem(code)) == (400, {"error": "invalid_grant"} | (await door.redeem(code))[1])


async def test_a_code_is_good_for_a_minute(door: Door) -> None:
    code = await door.code()
    door.clock.forward(60)
    assert (await door.redeem(code))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": VERIFIER[:-1] + "x"},
        {"code_verifier": CHALLENGE},
        {"code_verifier": ""},
        {"redirect_uri": "http://localhost:8080/other"},
        {"client_id": "someone"},
    ],
)
async def test_a_wrong_proof_spends_the_code(door: Door, changed: dict[str, str]) -> None:
    code = await door.code()
    assert (await door.redeem(code, **changed))[1]["error"] == "invalid_grant"
    assert (await door.redeem(code))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "redirect_uri",
    ["http://evil.test/", "http://localhost:8080", "http://localhost:8080/x", "http://localhost:8081/",
     "https://localhost:8080/", "http://localhost:8080@evil.test/", "//evil.test/", "", "javascript:alert(1)"],
)  # fmt: skip
async def test_nobody_is_sent_to_a_foreign_address(door: Door, redirect_uri: str) -> None:
    for answer in (
        await door.authorize(redirect_uri=redirect_uri),
        await door.choose("member@acme", redirect_uri=redirect_uri),
    ):
        assert answer.status == 400
        assert "location" not in answer.headers
        assert "Start from its page" in await answer.text()


async def test_loopback_by_its_other_names_is_home_too(door: Door) -> None:
    for origin in ("http://127.0.0.1:8080", "http://[::1]:8080"):
        assert (await door.authorize(redirect_uri=f"{origin}/")).status == 200


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"nonce": "n" * 513}, "invalid_request"),
    ],
)
async def test_a_wrong_request_is_told_to_the_client(door: Door, changed: dict[str, str], error: str) -> None:
    answer = await door.authorize(**changed)
    assert answer.status == 303
    back = sent_back(answer)
    assert (back["error"], back["state"]) == (error, "s&t=a te")
    assert "code" not in back


async def test_another_site_cannot_sign_a_person_in(door: Door) -> None:
    for origin in ("http://evil.test", "null"):
        answer = await door.choose("member@acme", origin=origin)
        assert (answer.status, "location" in answer.headers) == (400, False)


async def test_an_unknown_account_gets_no_code(door: Door) -> None:
    assert sent_back(await door.choose("root@acme"))["error"] == "access_denied"


async def test_a_session_goes_on_by_refresh_tokens_that_turn(door: Door) -> None:
    _, tokens = await door.redeem(await door.code())
    for _ in range(3):
        door.clock.forward(299)
        status, renewed = await door.renew(tokens["refresh_token"])
        assert status == 200
        assert renewed["refresh_token"] != tokens["refresh_token"]
        assert (await door.verify(renewed["access_token"])).subject == "member@acme"
        tokens = renewed


async def test_a_used_refresh_token_serves_a_lost_answer_and_then_no_more(door: Door) -> None:
    _, tokens = await door.redeem(await door.code())
    assert (await door.renew(tokens["refresh_token"]))[0] == 200
    assert (await door.renew(tokens["refresh_token"]))[0] == 200
    door.clock.forward(30)
    assert (await door.renew(tokens["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_refresh_token_ends_with_the_day_and_with_its_account(door: Door, tmp_path: Path) -> None:
    _, tokens = await door.redeem(await door.code())
    (tmp_path / "tenants").write_text("globex\n")
    assert (await door.renew(tokens["refresh_token"]))[1]["error"] == "invalid_grant"
    (tmp_path / "tenants").write_text("acme\n")
    door.clock.forward(13 * 3600)
    assert (await door.renew(tokens["refresh_token"]))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "form", [{}, {"grant_type": "password"}, {"grant_type": "refresh_token", "refresh_token": "x"}]
)
async def test_what_is_no_grant_is_refused_in_oauths_words(door: Door, form: dict[str, str]) -> None:
    status, said = await door.token(**form)
    assert status == 400
    assert said["error"] in ("unsupported_grant_type", "invalid_grant")
    assert said["error_description"].endswith(".")


async def test_too_much_is_refused(door: Door) -> None:
    status, said = await door.token(grant_type="x" * 100_000)
    assert (status, said["error"]) == (413, "invalid_request")


async def test_a_tenant_that_was_added_is_offered_at_once(door: Door, tmp_path: Path) -> None:
    (tmp_path / "tenants").write_text("acme\nglobex\ninitech\n../etc\n")
    page = await (await door.authorize()).text()
    assert 'value="member@initech"' in page
    assert "etc" not in page


async def test_the_page_runs_no_script_and_shows_no_foreign_markup(door: Door) -> None:
    answer = await door.authorize(state='"><script>alert(1)</script>', nonce="<b>")
    page, policy = await answer.text(), answer.headers["content-security-policy"]
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode() in policy
    assert answer.headers["cache-control"] == "no-store"


async def test_discovery_names_what_is_there(door: Door) -> None:
    told = await (await door.http.get(f"{door.url}/.well-known/openid-configuration")).json()
    assert told["issuer"] == ISSUER
    for name in ("authorization_endpoint", "jwks_uri", "end_session_endpoint"):
        path = told[name].removeprefix(ISSUER)
        assert (await door.http.get(f"{door.url}{path}", allow_redirects=False)).status in (200, 303, 400)
    keys = (await (await door.http.get(f"{door.url}/jwks")).json())["keys"]
    assert [sorted(key) for key in keys] == [["alg", "crv", "kid", "kty", "use", "x", "y"]]


async def test_signing_out_leads_back_to_the_page(door: Door) -> None:
    answer = await door.http.get(f"{door.url}/logout", allow_redirects=False)
    assert (answer.status, answer.headers["location"]) == (303, "/")


async def test_an_unknown_path_is_a_clear_page(door: Door) -> None:
    answer = await door.http.get(f"{door.url}/nothing")
    assert answer.status == 404
    assert "Back to the page" in await answer.text()


async def test_a_token_minted_beside_the_issuer_is_one_of_its_own(door: Door, tmp_path: Path) -> None:
    token = mint(tmp_path / "issuer", ISSUER, "soma", "acme", "eve", ("member", "admin"), 60, door.clock)
    caller = await door.verify(token)
    assert (caller.subject, caller.roles) == ("eve@acme", frozenset({"member", "admin"}))


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    first = open_key(tmp_path / "k")
    assert open_key(tmp_path / "k").jwk.key_id == first.jwk.key_id
    files = list((tmp_path / "k").iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600]
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"SOMAGENT_MODE": "PRODUCTION"}, "does not run in mode PRODUCTION"),
        ({"SOMAGENT_MODE": "DEVELOPER", "SOMA_ISSUER": ""}, "environment is wrong"),
        ({}, "environment is wrong"),
    ],
)
def test_it_ends_with_one_sentence_where_it_may_not_run(environment: dict[str, str], says: str, tmp_path: Path) -> None:
    told = {"SOMA_ISSUER": ISSUER, "SOMA_ISSUER_DIR": str(tmp_path), "PATH": os.environ["PATH"]} | environment
    ended = subprocess.run(
        [sys.executable, "-m", "services.local.issuer"], env=told, capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 1
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_real_clock_makes_tokens_that_are_good_now(tmp_path: Path) -> None:
    key = open_key(tmp_path)
    token = mint(tmp_path, ISSUER, "soma", "acme", "member", ("member",), 60, SystemClock())
    assert key.read(token, ISSUER, "soma", SystemClock())["sub"] == "member@acme"
