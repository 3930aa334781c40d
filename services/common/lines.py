"""What a process says of itself: one JSON object a line, constant words, facts as fields.

A process has one log, so it is found without being handed round: `log()`. `begin` says where its lines go.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

Line: TypeAlias = dict[str, Any]
Take: TypeAlias = Callable[[Line], None]


def printed(line: Line) -> None:
    sys.stdout.write(json.dumps(line, default=repr) + "\n")
    sys.stdout.flush()


@dataclass(slots=True)
class Log:
    """`exc_info` is a fault whose traceback is told as `exception`."""

    take: Take = printed
    always: Line = field(default_factory=dict)
    """What stands in each line."""

    def info(self, event: str, **facts: Any) -> None:
        self._say("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._say("warning", event, facts)

    def error(self, event: str, *, exc_info: Any = None, **facts: Any) -> None:
        if exc_info is not None:
            facts["exception"] = "".join(traceback.format_exception(exc_info)).rstrip("\n")
        self._say("error", event, facts)

    def _say(self, level: str, event: str, facts: Line) -> None:
        moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self.take({**self.always, **facts, "event": event, "level": level, "timestamp": moment})


LOG = Log()


def log() -> Log:
    return LOG


def begin(take: Take = printed, **always: Any) -> None:
    """From now on lines go there, with these facts in each."""
    LOG.take, LOG.always = take, always
