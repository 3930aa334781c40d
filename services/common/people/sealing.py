"""One person's key: it seals what they wrote, and gives the pseudonym that their events carry. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

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
    secret: bytes = field(repr=False)
    pseudonym: str = field(init=False, compare=False)
    """p_ and 24 letters: stable for the key, and nothing without it."""
    _cipher: AESGCM = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        digest = self._sub(b"soma pseudonym")
        named = "p_" + base64.b32encode(digest[:PSEUDONYM_BYTES]).decode().lower()
        object.__setattr__(self, "pseudonym", named)
        object.__setattr__(self, "_cipher", AESGCM(self._sub(b"soma seal")))

    @classmethod
    def new(cls, tenant: str) -> SubjectKey:
        return cls(tenant, secrets.token_bytes(KEY_BYTES))

    def seal(self, text: str, place: str) -> str:
        """AES-256-GCM, as `s1.<pseudonym>.<base64url of nonce and ciphertext>`. `place` is where the text belongs, such
        as the event's id: it cannot be opened elsewhere."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        closed = self._cipher.encrypt(nonce, text.encode(), self._bound(place))
        return f"{FORM}.{self.pseudonym}.{base64.urlsafe_b64encode(nonce + closed).decode().rstrip('=')}"

    def open(self, sealed: str, place: str) -> str:
        """The text. Raises Unreadable."""
        if pseudonym_of(sealed) != self.pseudonym:
            raise Unreadable("It was sealed with another key.")
        body = sealed.rpartition(".")[2]
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            opened = self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], self._bound(place))
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


def pseudonym_of(sealed: str) -> str:
    """The pseudonym of whose key it takes. Raises Unreadable for what is no sealed text."""
    form, _, rest = sealed.partition(".")
    pseudonym, _, body = rest.partition(".")
    if form != FORM or not body:
        raise Unreadable(f"This release opens {FORM}, not {sealed[:8]!r}.")
    return pseudonym
