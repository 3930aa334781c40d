"""What a process says of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from services.common.lines import Log
from services.common.testing import lines_said


def test_a_line_is_one_object_with_its_facts_and_those_that_stand_in_each(capsys: pytest.CaptureFixture[str]) -> None:
    Log(always={"room": "router"}).warning("keys in Vault wait", keys=2, of="a\nb", kind=ValueError)
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    moment = datetime.fromisoformat(said.pop("timestamp"))
    assert moment.tzinfo == UTC
    assert said == {
        "room": "router", "level": "warning", "event": "keys in Vault wait", "keys": 2, "of": "a\nb",
        "kind": "<class 'ValueError'>",
    }  # fmt: skip


def test_a_fault_is_told_with_its_traceback() -> None:
    with lines_said() as lines:
        try:
            raise ValueError("too few")
        except ValueError as fault:
            Log(lines.append).error("work failed", exc_info=fault)
    (line,) = lines
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: too few")
    assert "exc_info" not in line


def test_a_fact_of_a_line_counts_before_what_stands_in_each() -> None:
    lines: list[dict[str, object]] = []
    Log(lines.append, {"room": "router"}).info("peer seen", room="edge")
    assert lines[0]["room"] == "edge"
