"""What can disagree between the log, Postgres, the archive and Valkey, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from services.workers.reconcile.told import Heard

MISSING, ROWLESS, LEFT, DIFFERS, UNSEALED, ALTERED, UNLOGGED, UNARCHIVED, STALE, BEHIND, UNREAD = (
    "event_missing", "row_missing", "row_left", "end_differs", "unsealed", "altered", "unlogged", "unarchived",
    "stale_key", "relay_behind", "unreadable",
)  # fmt: skip
ADVICE = {
    MISSING: "Tell it again: soma reconcile --repair",
    ROWLESS: "Somebody took the row away past the rooms. The archive and backups of Postgres have what it was.",
    LEFT: "It was deleted, but is there. Delete it again; unless Postgres was put back from a backup.",
    DIFFERS: "Believe the row if nobody wrote into Postgres by hand: consumers have the other end.",
    UNSEALED: "See why the sealer could not seal it: soma events show --group sealer",
    ALTERED: "Two events have one id, so one was made by hand. The archive says which was first.",
    UNLOGGED: "It is sealed, so the trail is whole; but consumers never saw it. Look for what was taken from the log.",
    UNARCHIVED: "See why the archiver waits: soma logs workers. Until then keep the log's days.",
    STALE: "Remove it: soma reconcile --repair",
    UNREAD: "No room of this release told it. Consumers have given it up, and say why: soma events show",
    BEHIND: "Nothing was compared: too much waits in the outbox. See: soma log",
}
ENDS = {"done": "turn.answered", "failed": "turn.failed", "cancelled": "turn.cancelled"}
PANE_TOLD = ("pane.created", "pane.updated")


@dataclass(frozen=True, slots=True)
class Finding:
    tenant: str
    kind: str
    resource: str
    says: str
    event: str = ""
    """The type of the event that is missing."""
    ids: tuple[UUID, ...] = field(default=(), repr=False)
    """Of the row that it can be made from again."""
    repaired: bool = False

    @property
    def advice(self) -> str:
        return ADVICE[self.kind]

    def mended(self) -> Finding:
        return replace(self, repaired=True)


@dataclass(frozen=True, slots=True)
class Span:
    """The time of which is spoken."""

    since: datetime
    until: datetime

    def has(self, time: datetime | None) -> bool:
        return time is not None and self.since <= time < self.until


@dataclass(frozen=True, slots=True)
class Row:
    """What a tenant's tables hold of something that was told: each time of it, with the events that tell of that."""

    name: str
    ids: tuple[UUID, ...]
    """The last is its own."""
    told: tuple[tuple[datetime | None, tuple[str, ...]], ...]
    newest: bool = False
    """The event must be as new as its time: what was told before was another version."""


def untold(tenant: str, rows: Iterable[Row], heard: Heard, span: Span) -> list[Finding]:
    """Rows of which the log says nothing."""
    return [
        Finding(tenant, MISSING, row.name, f"{kinds[0]} is not in the log.", kinds[0], row.ids)
        for row in rows
        for time, kinds in row.told
        if time and span.has(time) and not is_told(row, time, kinds, heard)
    ]


def is_told(row: Row, time: datetime, kinds: tuple[str, ...], heard: Heard) -> bool:
    last = heard.last(kinds, row.ids[-1])
    whole_ms = time.replace(microsecond=time.microsecond // 1000 * 1000)
    return last is not None and (not row.newest or last >= whole_ms)


def others(tenant: str, rows: Iterable[Row], heard: Heard) -> list[Finding]:
    """Turns of which the log says another end than Postgres."""
    found = list[Finding]()
    for row in rows:
        ends = [kinds[0] for _, kinds in row.told if kinds[0] in ENDS.values()]
        wrong = [kind for kind in ENDS.values() if ends and kind not in ends and heard.has(kind, row.ids[-1])]
        if wrong:
            found.append(Finding(tenant, DIFFERS, row.name, f"Postgres says {ends[0]}, and the log {wrong[0]}."))
    return found


def mentioned(heard: Heard, kinds: Iterable[str], span: Span) -> set[UUID]:
    """What the log says happened in that time."""
    return {id for kind in kinds for id, time in heard.times.get(kind, {}).items() if span.has(time)}


def unread(events: Mapping[str, Collection[UUID]]) -> list[Finding]:
    """Of each tenant, one for all events that cannot be read."""
    return [
        Finding(tenant, UNREAD, f"events/{min(ids)}", f"{len(ids)} such: an event that cannot be read.")
        for tenant, ids in sorted(events.items())
    ]
