"""What a SIEM is told of an audit event, and how a syslog message and a webhook's body look."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from services.workers.siem.ocsf import ocsf
from services.workers.siem.syslog import framed, message
from services.workers.siem.webhook import MOST_BYTES, bodies

DONE = {
    "id": "0193a1c0-0000-7000-8000-000000000001", "action": "pane.deleted", "version": 1,
    "time": "2031-02-03T09:00:00.123Z", "tenant": "acme", "subject": "p_1f", "workload": "spiffe://soma.local/ns/soma/sa/edge",
    "resource": "conversations/1/panes/2", "outcome": "done", "trace": "0af7651916cd43dd8448eb211c80319c",
    "person": "sealed", "inputs": "ab" * 32,
}  # fmt: skip
REFUSED = DONE | {"outcome": "refused", "reason": "ROLE_REFUSED", "action": "chat.asked"}
REQUIRED = {
    "activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "src_endpoint",
    "time", "type_uid",
}  # fmt: skip
RFC_5424 = re.compile(
    rb"<(\d{1,3})>1 (\S+) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) - (.*)", re.DOTALL
)


def test_an_event_has_what_api_activity_requires() -> None:
    told = ocsf(DONE)
    assert told.keys() >= REQUIRED
    assert (told["class_uid"], told["category_uid"], told["type_uid"]) == (6003, 6, 600304)
    assert (told["time"], told["status"], told["activity_name"]) == (1927875600123, "Success", "Delete")
    assert told["actor"]["user"] == {"uid": "p_1f", "org": {"uid": "acme"}, "type_id": 1, "type": "User"}
    assert told["api"] == {"operation": "pane.deleted", "service": {"name": "soma"}, "request": {"uid": DONE["trace"]}}
    assert told["resources"] == [{"name": "conversations/1/panes/2", "type": "pane"}]
    assert told["metadata"]["uid"] == DONE["id"]
    assert told["metadata"]["tenant_uid"] == "acme"
    assert told["metadata"]["version"] == "1.3.0"
    assert told["unmapped"] == {"inputs": DONE["inputs"]}


def test_a_refusal_is_a_failure_with_its_reason() -> None:
    told = ocsf(REFUSED)
    assert (told["status_id"], told["status"], told["status_code"]) == (2, "Failure", "ROLE_REFUSED")


def test_who_a_person_is_does_not_leave_the_mesh() -> None:
    assert b"sealed" not in msgspec.json.encode(ocsf(DONE))


@pytest.mark.parametrize(
    ("action", "activity", "name"),
    [
        ("conversation.created", 1, "Create"),
        ("layout.updated", 3, "Update"),
        ("audit.exported", 2, "Read"),
        ("routing.decided", 99, "decided"),
        ("strange", 99, "strange"),
    ],
)
def test_the_last_word_of_an_action_is_its_activity(action: str, activity: int, name: str) -> None:
    told = ocsf(DONE | {"action": action})
    assert (told["activity_id"], told["activity_name"], told["type_uid"]) == (activity, name, 600300 + activity)


def test_what_may_be_absent_may_be_absent() -> None:
    least: dict[str, Any] = {name: DONE[name] for name in ("id", "action", "time", "tenant", "outcome", "version")}
    told = ocsf(least | {"subject": "system:agent"})
    assert told["actor"]["user"]["type"] == "System"
    assert told["src_endpoint"] == {"svc_name": "soma"}
    assert not {"resources", "status_code", "unmapped"} & told.keys()


@pytest.mark.parametrize(("event", "priority"), [(DONE, 110), (REFUSED, 109)])
def test_a_syslog_message_is_what_rfc_5424_says(event: dict[str, Any], priority: int) -> None:
    found = RFC_5424.fullmatch(message(ocsf(event), "höst name"))
    assert found
    assert found.groups()[:6] == (
        b"%d" % priority, b"2031-02-03T09:00:00.123Z", b"h_st_name", b"soma", b"-", event["action"].encode(),
    )  # fmt: skip
    assert msgspec.json.decode(found[7]) == ocsf(event)


def test_an_action_that_is_too_long_or_strange_is_still_a_word() -> None:
    found = RFC_5424.fullmatch(message(ocsf(DONE | {"action": "ä \n" + "x" * 50}), ""))
    assert found
    assert (found[3], found[6]) == (b"-", b"___" + b"x" * 29)


def test_a_frame_counts_bytes() -> None:
    assert framed("ä\n".encode()) == b"3 \xc3\xa4\n"


def test_bodies_are_arrays_in_order_and_in_bounds() -> None:
    events = [msgspec.json.encode({"n": n, "x": "x" * (200_000 if n % 7 else 600_000)}) for n in range(20)]
    sent = list(bodies(events))
    assert [event["n"] for body in sent for event in msgspec.json.decode(body)] == list(range(20))
    assert all(len(body) <= MOST_BYTES + 50 or len(msgspec.json.decode(body)) == 1 for body in sent)
    assert list(bodies([])) == []
