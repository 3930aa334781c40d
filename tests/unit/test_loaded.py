"""What a room holds in memory before anyone asks it for something."""

from __future__ import annotations

import subprocess
import sys

import pytest

SELDOM = ("numpy", "rich", "pygments", "pydantic", "structlog", "litellm")


@pytest.mark.parametrize("room", ["router", "agent", "canvas", "console"])
def test_a_room_begins_without_what_it_seldom_or_never_needs(room: str) -> None:
    program = f"import sys, services.{room}.__main__ as _; print(*(set({SELDOM}) & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.split() == []
