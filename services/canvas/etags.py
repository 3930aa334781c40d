"""What a change says of itself: what it was made from, its etag; and what it changes, its mask. Pure.

An etag is "<version>-<change>". Clients send it back as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.common.errors import Invalid

ETAG = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})")


def etag_of(version: int, change: int) -> str:
    return f"{version}-{change}"


def version_of(etag: str) -> int | None:
    """The version that an etag is of; None when it is no etag of ours."""
    found = ETAG.fullmatch(etag)
    return int(found[1]) if found else None


def check_sent(etag: str) -> None:
    """Raise Invalid ETAG_MISSING when a change of text does not say what it was made from."""
    if not etag:
        message = "Send the etag of the pane that this text was made from, so that nobody's change is lost."
        raise Invalid("ETAG_MISSING", message)


def check_mask(paths: Iterable[str], known: tuple[str, ...]) -> frozenset[str]:
    """What changes. Raises Invalid UPDATE_MASK_INVALID unless it is some of what is known, and nothing else."""
    asked = frozenset(paths)
    if not asked or not asked <= frozenset(known):
        raise Invalid("UPDATE_MASK_INVALID", f"Say what changes with updateMask: one or more of {', '.join(known)}.")
    return asked
