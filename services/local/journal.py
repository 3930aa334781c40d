"""What the supervisor says of itself: one JSON object a line in its log, in the words that the rooms use."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.local.logs import open_log


@dataclass(frozen=True, slots=True)
class Journal:
    """The supervisor's log."""

    file: int

    @classmethod
    def open(cls, folder: Path) -> Journal:
        return cls(open_log(folder, "supervisor"))

    def take_structlog(self) -> None:
        """Let the libraries of ours that log by structlog write here too."""
        import structlog

        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(os.fdopen(os.dup(self.file), "a", buffering=1)),
        )

    def note(self, event: str, level: str = "info", **facts: Any) -> None:
        """Write one line. A full disk must not stop the mesh."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"timestamp": moment, "level": level, "event": event, **facts}
        try:
            os.write(self.file, json.dumps(line, default=str).encode() + b"\n")
        except OSError:
            return
