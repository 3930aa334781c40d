"""Whatever bytes were sealed, an auditor gets the event: none makes the room fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from services.console.store import as_event

TIME = datetime(2031, 2, 3, 12, tzinfo=UTC)
WHOLE = {"id": "1", "action": "chat.asked", "subject": "p_a", "outcome": "done", "time": "2031-02-03T12:00:00Z"}


@pytest.mark.parametrize(
    "time", ["2031-02-03 12:00:00Z", "2031-02-03T12:00:00", "2031-02-30T12:00:00Z", "soon", "", None, 7, [], {}]
)
def test_a_time_that_the_answer_cannot_hold_is_told_by_the_row(time: object) -> None:
    event = as_event(row(json.dumps(WHOLE | {"time": time}).encode()))
    assert (event.time.ToDatetime(UTC), event.action, event.name) == (TIME, "chat.asked", "audit/events/7")


def test_a_field_that_the_answer_cannot_hold_stays_empty() -> None:
    strange: list[object] = [None, 7, True, [], {}, "\ud800"]
    for value in strange:
        event = as_event(row(json.dumps(WHOLE | {"action": value}).encode()))
        assert (event.action, event.outcome) == ("", "done")


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":1}'])
def test_bytes_that_are_no_event_are_shown_as_they_are(raw: bytes) -> None:
    event = as_event(row(raw))
    assert (event.canonical, event.chain, event.time.ToDatetime(UTC), event.id) == (raw, b"c", TIME, "")


def row(canonical: bytes) -> Any:
    return {"index": 7, "time": TIME, "canonical": canonical, "chain": b"c"}
