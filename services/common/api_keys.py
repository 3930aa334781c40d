"""What an API key looks like, and what is kept of it. Pure.

    sk-soma-<43 characters: 256 random bits><6 characters: their CRC-32>

in the alphabet of URL-safe base64. By the checksum a mistyped key is known without asking anybody. A key has as many
random bits as its hash, so that a plain SHA-256 is as good as a slow one.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib

PREFIX = "sk-soma-"
RANDOM_BYTES = 32
SHOWN = 6
"""How many of the random characters stand in the hint: 36 of the 256 bits."""
SHAPE = re.compile(r"sk-soma-([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})")


def new_secret() -> str:
    random = encoded(secrets.token_bytes(RANDOM_BYTES))
    return f"{PREFIX}{random}{checksum(random)}"


def is_key(bearer: str) -> bool:
    """It means to be a key, whether or not it is one."""
    return bearer.startswith(PREFIX)


def is_whole(secret: str) -> bool:
    """It was made by `new_secret`, or by somebody who can do sums."""
    found = SHAPE.fullmatch(secret)
    return found is not None and checksum(found[1]) == found[2]


def hash_of(secret: str) -> bytes:
    """SHA-256 of the whole of it."""
    return hashlib.sha256(secret.encode()).digest()


def hint_of(secret: str) -> str:
    """Its beginning, to know it by."""
    return f"{secret[: len(PREFIX) + SHOWN]}…"


def checksum(random: str) -> str:
    return encoded(zlib.crc32(random.encode()).to_bytes(4))


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
