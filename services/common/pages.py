"""Pages of a list, newest first. A token is opaque to clients and good for the list that gave it only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from services.common.errors import Invalid

M = TypeVar("M", bound=Message)

DEFAULT_SIZE = 50
MOST_BYTES = 512 * 1024
NEWEST = uuid.UUID(int=2**128 - 1)


def token_after(last: uuid.UUID, listing: str) -> str:
    """The token of the page after `last` in the list named `listing`."""
    return base64.urlsafe_b64encode(last.bytes + mark(listing)).decode().rstrip("=")


def before(token: str, listing: str) -> uuid.UUID:
    """The id that the page's rows are older than. Raises Invalid PAGE_TOKEN_INVALID."""
    if not token:
        return NEWEST
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 20 or raw[16:] != mark(listing):
        message = "The page token is not one of this list. Begin with the first page, without a token."
        raise Invalid("PAGE_TOKEN_INVALID", message)
    return uuid.UUID(bytes=raw[:16])


def cut(found: Sequence[M], size: int, listing: str, id_of: Callable[[M], uuid.UUID]) -> tuple[Sequence[M], str]:
    """The page that begins what was found, `size` rows or one more, and the next one's token: empty on the last."""
    fits = fitting([one.ByteSize() for one in found[:size]])
    return found[:fits], token_after(id_of(found[fits - 1]), listing) if fits < len(found) else ""


def fitting(sizes: Sequence[int]) -> int:
    """How many rows of these sizes in bytes go into a page of 512 KiB: the first one in any case."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > MOST_BYTES:
            return count
    return len(sizes)


def mark(listing: str) -> bytes:
    return hashlib.sha256(listing.encode()).digest()[:4]
