"""What every worker may use."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.db import Database
from services.common.log import Log
from services.common.telemetry import Sight


@dataclass(frozen=True, slots=True)
class Bench:
    db: Database
    log: Log
    sight: Sight
    keys_url: str
    archive_url: str = ""
    """Empty: there is no archive."""
    siem_url: str = ""
    """Empty: nobody else is told."""
