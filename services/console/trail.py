"""The sealed events, looked through page by page: by filters, within a bounded time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.common import pages
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Invalid
from services.common.people.sealing import SubjectKey, Unreadable
from services.common.people.subjects import SYSTEM
from services.console import store
from services.console.names import event_index, no_event
from services.console.store import Filter
from soma.console.v1.audit_pb2 import AuditEvent
from soma.console.v1.audit_service_pb2 import ListAuditEventsRequest, ListAuditEventsResponse

BEYOND = 2**63 - 1
"""No trail is so long."""
SPAN = 10_000
"""Of so few events, or fewer, the time tells where in the trail they are."""
SIZE_BESIDE = 400
"""Bytes of an event in an answer beside what is sealed, which comes twice: as it is, and read."""


@dataclass(frozen=True, slots=True)
class Trail:
    db: Database
    window: int = 100_000
    """How many events one statement looks at, at most."""
    looking_s: float = 1.0
    """After which a page comes with what was found."""

    async def get(self, caller: Caller, name: str) -> AuditEvent:
        index = event_index(name)
        async with self.db.tenant(caller) as tx:
            for event in await self._opened(tx, await store.events(tx, [index])):
                return event
        raise no_event(name)

    async def page(self, caller: Caller, request: ListAuditEventsRequest) -> ListAuditEventsResponse:
        """One page, newest first. A page token holds a UUID: here its number is an index."""
        before = min(pages.before(request.page_token, listing := listing_of(request)).int, BEYOND)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            wanted = await filter_of(tx, request)
            if wanted is None:
                return ListAuditEventsResponse()
            found, end = await self._look(tx, wanted, before, size)
            events = await self._opened(tx, await store.events(tx, found))
        token = pages.token_after(UUID(int=end), listing) if end else ""
        return ListAuditEventsResponse(events=events, next_page_token=token)

    async def _look(self, tx: Transaction, wanted: Filter, before: int, size: int) -> tuple[list[int], int]:
        """The newest events older than `before` that pass, as many as fit into a page; and which index the next page is
        older than: 0 when there is none."""
        await store.plan_for_values(tx)
        lowest, before = await bounds(tx, wanted, before)
        found: list[tuple[int, int]] = []
        enough = time.monotonic() + self.looking_s
        while before > lowest:
            start = max(lowest, before - self.window)
            found += await store.fitting(tx, wanted, start, before, size + 1 - len(found))
            before = start
            if len(found) > size or time.monotonic() > enough:
                break
        count = pages.fitting([2 * size_bytes + SIZE_BESIDE for _, size_bytes in found[:size]])
        page = [index for index, _ in found[:count]]
        if count < len(found):
            return page, page[-1]
        return page, before if before > lowest else 0

    async def _opened(self, tx: Transaction, events: list[AuditEvent]) -> list[AuditEvent]:
        """The events with people's names instead of the sealed ones; without, where nobody can open them any more."""
        people = {event.subject for event in events if event.person and "\0" not in event.subject}
        keys = {person: await self.db.subjects.by_pseudonym(tx, tx.caller.tenant, person) for person in people}
        for event in events:
            event.person = name_in(event, keys.get(event.subject))
        return events


async def bounds(tx: Transaction, wanted: Filter, before: int) -> tuple[int, int]:
    """Where to look: from which index on, and before which."""
    before = min(before, await store.size(tx))
    span = await store.span(tx, wanted, SPAN + 1) if wanted.since or wanted.until else None
    return (span[0], min(before, span[1])) if span else (0, before)


def name_in(event: AuditEvent, key: SubjectKey | None) -> str:
    if key is None:
        return ""
    try:
        return key.open(event.person, event.id)
    except Unreadable:
        return ""


async def filter_of(tx: Transaction, request: ListAuditEventsRequest) -> Filter | None:
    """None: nothing can pass. Raises Invalid REQUEST_INVALID for a time that is none."""
    since, until = moment(request, "since"), moment(request, "until")
    by_prefix = request.action.endswith(".")
    subject = request.person
    if subject and not subject.startswith(SYSTEM):
        known = await tx.known_as(subject)
        if known is None:
            return None
        subject = known
    return Filter(
        subject=subject or None,
        action=None if by_prefix else request.action or None,
        prefix=request.action if by_prefix else None,
        resource=request.resource or None,
        outcome=request.outcome or None,
        since=since,
        until=until,
    )


def moment(request: ListAuditEventsRequest, name: str) -> datetime | None:
    if not request.HasField(name):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(request, name)
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as fault:
        raise Invalid("REQUEST_INVALID", f"The field {name} is wrong: there is no such time.", field=name) from fault


def listing_of(request: ListAuditEventsRequest) -> str:
    """A token is good for the filters that it came with."""
    filters = ListAuditEventsRequest()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    return f"audit/events {filters.SerializeToString(deterministic=True).hex()}"
