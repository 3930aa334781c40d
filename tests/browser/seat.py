"""A session from the mesh's issuer as the page gets and keeps it, but without a page: most laws begin signed in."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.system.edge import Answer, Client


def seat(port: int, account: str) -> dict[str, str]:
    """What the page's sessionStorage holds once this account has signed in."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    here = {"client_id": "soma-web", "redirect_uri": f"http://localhost:{port}/"}
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    asked = {"response_type": "code", "scope": "openid", "code_challenge": challenge, "code_challenge_method": "S256"}
    answer = post(port, "/oidc/authorize", {**here, **asked, "account": account})
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    proof = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    given = post(port, "/oidc/token", {**here, **proof}).json
    life_ms = given["expires_in"] * 1000
    kept = {"access": given["access_token"], "refresh": given["refresh_token"], "lifeMs": life_ms}
    return {
        "soma.tokens": json.dumps({**kept, "expiresAtMs": int(time.time() * 1000) + life_ms}),
        "soma.subject": json.dumps(account),
    }


def post(port: int, path: str, fields: dict[str, str]) -> Answer:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    return Client(port).call("POST", path, urlencode(fields).encode(), kind)
