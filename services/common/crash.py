"""The door by which tests break a process between two steps: `SOMA_CRASH_AT="relay: moved:3"` kills it when it comes
there for the third time, SOMA_STOP_AT makes it stand still.

It is open in mode TEST alone. Everywhere else `here` does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from services.common.modes import Mode

WAYS = {"SOMA_CRASH_AT": signal.SIGKILL, "SOMA_STOP_AT": signal.SIGSTOP}


@dataclass(slots=True)
class Fuse:
    place: str
    left: int
    """How often it is passed until it burns through, that time included."""
    way: signal.Signals


def here(place: str) -> None:
    """A step is done, and the next has not begun."""
    for fuse in armed():
        if fuse.place == place:
            fuse.left -= 1
            if fuse.left == 0:
                os.kill(os.getpid(), fuse.way)


@cache
def armed() -> Sequence[Fuse]:
    """What the environment says, read once."""
    if os.environ.get("SOMAGENT_MODE") != Mode.TEST:
        return ()
    told = [(os.environ[name].rpartition(":"), way) for name, way in WAYS.items() if os.environ.get(name)]
    return [Fuse(place, int(times), way) for (place, _, times), way in told]
