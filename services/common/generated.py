"""Where the files are that `make gen` made from the contracts."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SERVICES = Path(str(resources.files("services")))
PACKED = SERVICES / "gen"
GENERATED = PACKED if PACKED.is_dir() else SERVICES.parent / "gen"
"""Beside the code in a wheel, gen/ of a checkout."""
