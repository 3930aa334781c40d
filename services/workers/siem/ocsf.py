"""Audit events as the Open Cybersecurity Schema Framework says them: class 6003, API Activity, version 1.3.0. Pure.

A person is their pseudonym; who that is stays in the trail, sealed. `metadata.uid` is the event's id, the same however
often it is told: receivers know repeats by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any

VERSION = "1.3.0"
CLASS, CATEGORY = 6003, 6
ACTIVITIES = {0: "Unknown", 1: "Create", 2: "Read", 3: "Update", 4: "Delete", 99: "Other"}
OTHER = 99
VERBS = {
    **dict.fromkeys(("created", "asked", "added", "granted"), 1),
    **dict.fromkeys(("read", "listed", "exported", "opened"), 2),
    **dict.fromkeys(("updated", "written", "restored", "cancelled", "rotated", "changed", "moved"), 3),
    **dict.fromkeys(("deleted", "removed", "revoked", "dropped", "forgotten"), 4),
}
"""The last word of an action, and its activity."""
MAPPED = frozenset({
    "id", "action", "time", "tenant", "subject", "workload", "resource", "outcome", "reason", "trace", "version",
})  # fmt: skip
WITHHELD = frozenset({"person"})


def ocsf(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a SIEM is told of an audit event. Fields that are not known here go along as `unmapped`."""
    action, tenant, trace = event["action"], event["tenant"], event.get("trace")
    verb = action.rpartition(".")[2]
    activity = VERBS.get(verb, OTHER)
    is_done, resource = event["outcome"] == "done", event.get("resource")
    told = {
        "activity_id": activity,
        "activity_name": verb if activity == OTHER else ACTIVITIES[activity],
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"API Activity: {ACTIVITIES[activity]}",
        "time": milliseconds(event["time"]),
        "severity_id": 1,
        "severity": "Informational",
        "status_id": 1 if is_done else 2,
        "status": "Success" if is_done else "Failure",
        "status_code": event.get("reason"),
        "actor": {"user": user(event["subject"], tenant)},
        "api": {"operation": action, "service": {"name": "soma"}, "request": {"uid": trace or event["id"]}},
        "src_endpoint": {"svc_name": event.get("workload") or "soma"},
        "resources": [{"name": resource, "type": action.partition(".")[0]}] if resource else None,
        "metadata": {
            "version": VERSION,
            "product": {"name": "SomaAgent", "vendor_name": "SomaTech", "version": product_version()},
            "uid": event["id"],
            "tenant_uid": tenant,
            "event_code": action,
            "log_name": "agent.audit",
            "log_version": str(event.get("version", "")),
            "original_time": event["time"],
            **({"correlation_uid": trace} if trace else {}),
        },
        "unmapped": {name: value for name, value in event.items() if name not in MAPPED | WITHHELD} or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def user(subject: str, tenant: str) -> Mapping[str, Any]:
    is_room = subject.startswith("system:")
    kind = {"type_id": 3, "type": "System"} if is_room else {"type_id": 1, "type": "User"}
    return {"uid": subject, "org": {"uid": tenant}, **kind}


def milliseconds(time: str) -> int:
    """Since 1970 began, of an RFC 3339 time."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


@cache
def product_version() -> str:
    return version("soma-agent")
