"""The page of the development issuer: choose who you are, or read what went wrong. No script runs in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template

from aiohttp import web

from services.local.issuer.grants import Account

ASKED = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)
WHAT = {"admin": "Looks after the tenant", "auditor": "Reads the audit trail", "member": "Asks questions"}
CHEVRON = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="m6 3.5 4.5 4.5L6 12.5"/></svg>'


def read_page() -> Page:
    """The page as it stands beside this file."""
    whole = Path(__file__).with_name("sign_in.html").read_text()
    style = re.search(r"<style>(.*?)</style>", whole, re.DOTALL)
    digest = hashlib.sha256(style.group(1).encode() if style else b"").digest()
    return Page(Template(whole), f"'sha256-{base64.b64encode(digest).decode()}'")


@dataclass(frozen=True, slots=True)
class Page:
    """A frame with two contents. Its one style sheet is allowed by its hash."""

    frame: Template
    style: str

    def offer(self, accounts: Iterable[Account], asked: Mapping[str, str], origins: frozenset[str]) -> web.Response:
        """The accounts, a button each. What was asked comes back with the answer."""
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{escape(asked[name])}">' for name in ASKED if name in asked
        )
        tenants = "".join(
            tenant_group(number, tenant, list(people))
            for number, (tenant, people) in enumerate(groupby(accounts, lambda account: account.tenant))
        )
        lead = "Choose who you are. This is a development mesh: there are no passwords."
        form = f'<form method="post">{hidden}{tenants}</form>'
        return self._response(200, "Sign in", lead, form, " ".join(sorted(nameable(origins))))

    def refusal(self, status: int, why: str) -> web.Response:
        """What went wrong, and the way back."""
        return self._response(status, "That did not work", why, '<a class="back" href="/">Back to the page</a>', "")

    def _response(self, status: int, title: str, lead: str, content: str, form_targets: str) -> web.Response:
        policy = (
            f"default-src 'none'; style-src {self.style}; form-action 'self' {form_targets}; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        return web.Response(
            status=status,
            text=self.frame.substitute(title=escape(title), lead=escape(lead), content=content),
            content_type="text/html",
            headers={
                "content-security-policy": policy,
                "cache-control": "no-store",
                "referrer-policy": "same-origin",  # a form's Origin would otherwise be "null"
                "x-content-type-options": "nosniff",
            },
        )


def tenant_group(number: int, tenant: str, people: list[Account]) -> str:
    rows = "".join(account_button(account) for account in people)
    heading = f'<h2 id="t-{tenant}">{tenant}</h2>'
    return f'<section class="hue-{number % 6}" aria-labelledby="t-{tenant}">{heading}{rows}</section>'


def account_button(account: Account) -> str:
    what = escape(WHAT.get(account.person, ", ".join(account.roles)))
    return (
        f'<button name="account" value="{escape(account.subject)}">'
        f'<span class="face" aria-hidden="true">{escape(account.person[0].upper())}</span>'
        f"<span><b>{escape(account.person.capitalize())}</b><small>{what}</small></span>{CHEVRON}</button>"
    )


def nameable(origins: Iterable[str]) -> list[str]:
    """The origins that a content security policy can name: it knows no IPv6 addresses."""
    return [origin for origin in origins if "[" not in origin]
