"""What the supervisor says of itself: one JSON object a line in its log, in the words that the rooms use."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common.lines import Line
from services.local.logs import open_log


@dataclass(frozen=True, slots=True)
class Journal:
    """The supervisor's log."""

    file: int

    @classmethod
    def open(cls, folder: Path) -> Journal:
        return cls(open_log(folder, "supervisor"))

    def note(self, event: str, level: str = "info", **facts: Any) -> None:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.write({"timestamp": moment, "level": level, "event": event, **facts})

    def write(self, line: Line) -> None:
        """A full disk must not stop the mesh."""
        try:
            os.write(self.file, json.dumps(line, default=str).encode() + b"\n")
        except OSError:
            return
