"""Time and names, so that tests can hold both."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def new_id() -> uuid.UUID:
    """A UUIDv7: 48 bits of milliseconds, 12 of their fraction (RFC 9562, 6.2, method 3), 62 of chance. What is made
    a quarter of a microsecond later, also by another process of this machine, sorts later."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction, chance = (nanoseconds << 12) // 1_000_000, int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << 62) | chance)


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
