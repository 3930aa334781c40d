"""One person's key: it seals what they wrote, and gives the pseudonym that their events carry. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORM = "s1"
KEY_BYTES, NONCE_BYTES = 32, 12
PSEUDONYM_BYTES = 15


class Unreadable(Exception):  # noqa: N818 - what a sealed text is
    """It was sealed with another key, for another place, or altered."""


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """32 random bytes that belong to one person of one tenant."""

    tenant: str
    secret: bytes

    @classmethod
    def new(cls, tenant: str) -> SubjectKey:
        return cls(tenant, secrets.token_bytes(KEY_BYTES))

    @property
    def pseudonym(self) -> str:
        """p_ and 24 letters: stable for the key, and nothing without it."""
        digest = hmac.digest(self.secret, b"soma pseudonym", "sha256")
        return "p_" + base64.b32encode(digest[:PSEUDONYM_BYTES]).decode().lower()

    def seal(self, text: str, place: str) -> str:
        """AES-256-GCM, as `s1.<pseudonym>.<base64url of nonce and ciphertext>`. `place` is where the text belongs, such
        as the event's id: it cannot be opened elsewhere."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        closed = AESGCM(self._sub(b"soma seal")).encrypt(nonce, text.encode(), self._bound(place))
        return f"{FORM}.{self.pseudonym}.{base64.urlsafe_b64encode(nonce + closed).decode().rstrip('=')}"

    def open(self, sealed: str, place: str) -> str:
        """The text. Raises Unreadable."""
        form, _, rest = sealed.partition(".")
        body = rest.partition(".")[2]
        try:
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            if form != FORM:
                raise Unreadable(f"This release opens {FORM}, not {form[:8]!r}.")
            opened = AESGCM(self._sub(b"soma seal")).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], self._bound(place))
        except (InvalidTag, ValueError) as fault:
            raise Unreadable("It was sealed with another key or for another place, or it was altered.") from fault
        return opened.decode()

    def digest(self, body: bytes) -> str:
        """HMAC-SHA-256 in lower-case hex: shows equality, and gives nothing to guess at without the key."""
        return hmac.digest(self._sub(b"soma digest"), body, hashlib.sha256).hex()

    def _sub(self, purpose: bytes) -> bytes:
        return hmac.digest(self.secret, purpose, "sha256")

    def _bound(self, place: str) -> bytes:
        return f"{self.tenant}\n{place}".encode()


def sealer_of(sealed: str) -> str:
    """The pseudonym of whose key it takes."""
    return sealed.split(".", 2)[1]
