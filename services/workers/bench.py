"""What every worker may use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.common.db import Database
from services.common.log.log import Log
from services.common.telemetry import Sight
from services.workers.retention.calls import DECISION_DAYS, LEDGER_DAYS

ARCHIVE_AGE = timedelta(hours=1)


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
    archive_age: timedelta = ARCHIVE_AGE
    """No event waits longer for its place in the archive."""
    siem_ca: Path | None = None
    siem_token_file: Path | None = None
    cache_url: str = ""
    """Empty: there is no Valkey."""
    reconcile_s: float = 300.0
    """How often the log is held against the stores."""
    train_s: float = 5.0
    """How often is looked whether there is enough feedback to learn from."""
    decision_days: int = DECISION_DAYS
    ledger_days: int = LEDGER_DAYS
