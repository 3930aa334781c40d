"""A trail of forty thousand events: proofs and pages cost what they cost in a short one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
import pytest_asyncio

from services.common.caller import Caller
from services.common.clock import SystemClock, rfc3339
from services.common.db import open_database
from services.common.log.log import Entry
from services.common.trail import trail
from services.common.trail.merkle import verify_consistency, verify_inclusion
from services.console.trail import Trail
from soma.console.v1 import audit_service_pb2 as wire
from tests.house import House
from tests.rpc.test_audit import Auditor, auditor_of, new_tenant
from tests.sealing import AUDIT, seal_entries, workers_database

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZE, BATCH = 40_000, 10_000
BEGIN = datetime(2031, 2, 3, tzinfo=UTC)
LARGE_BYTES = 60_000
ROWS_READ = """
SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables
WHERE schemaname = 'soma' AND relname IN ('audit', 'audit_hashes')
"""


def told(tenant: str, index: int) -> Entry:
    """One event a second. Each thousandth is rare; the first forty are large."""
    time = BEGIN + timedelta(seconds=index)
    body = {
        "action": "rare.thing" if index % 1000 == 0 else "usual.thing",
        "id": str(UUID(int=index + 1)),
        "outcome": "done",
        "reason": "x" * LARGE_BYTES if index < 40 else "",
        "resource": f"things/{index}",
        "subject": "system:maker",
        "tenant": tenant,
        "time": rfc3339(time),
        "version": 1,
    }
    payload = json.dumps(body, separators=(",", ":")).encode()
    return Entry(AUDIT, 0, index, UUID(int=index + 1), tenant, f"{tenant}/system:maker", "made.up", payload, "", time)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def auditor(house: House) -> Auditor:
    tenant = await new_tenant(house)
    async with workers_database(house) as db:
        for first in range(0, SIZE, BATCH):
            await seal_entries(house, db, [told(tenant, index) for index in range(first, first + BATCH)])
    return auditor_of(house, tenant)


@pytest.mark.parametrize("index", [0, 9_999, 10_000, 23_456, SIZE - 1])
async def test_an_event_is_proven_under_each_head_that_holds_it(auditor: Auditor, index: int) -> None:
    for head in await auditor.heads():
        if head.size > index:
            proof = await auditor.inclusion(f"audit/events/{index}", head.size)
            assert len(proof.hashes) <= SIZE.bit_length()
            assert verify_inclusion(index, head.size, proof.leaf_hash, proof.hashes, head.root)


async def test_each_head_begins_the_next(auditor: Auditor) -> None:
    for first, second in pairwise((await auditor.heads())[::-1]):
        proof = await auditor.consistency(first.size, second.size)
        assert verify_consistency(first.size, second.size, proof.hashes, first.root, second.root)


async def test_a_proof_reads_few_rows_of_many(house: House, auditor: Auditor) -> None:
    caller, tenant = as_caller(auditor), auditor.person.tenant
    async with open_database(*house.store("console"), SystemClock()) as db, db.tenant(caller) as tx:
        await trail.inclusion(tx, tenant, 23_456, SIZE)
        await trail.consistency(tx, tenant, 10_000, 30_000)
        assert 0 < await tx.fetchval(ROWS_READ) < 300


async def test_what_is_rare_is_found_and_pages_end_where_it_does(auditor: Auditor) -> None:
    rare = [event.index for event in await auditor.events(action="rare.", page_size=7)]
    assert rare == list(range(0, SIZE, 1000))[::-1]
    hour = await auditor.events(since=BEGIN + timedelta(hours=2), until=BEGIN + timedelta(hours=2, seconds=130))
    assert [event.index for event in hour] == list(range(7200, 7330))[::-1]
    assert (await auditor.page(action="no.")) == wire.ListAuditEventsResponse()


async def test_a_time_with_many_events_has_the_same_bounds(auditor: Auditor) -> None:
    half = BEGIN + timedelta(seconds=20_000)
    assert (await auditor.page(until=half, page_size=1)).events[0].index == 19_999
    rare = [event.index for event in await auditor.events(since=half, action="rare.thing")]
    assert rare == list(range(20_000, SIZE, 1000))[::-1]


async def test_a_page_ends_before_it_is_too_large(auditor: Auditor) -> None:
    until = BEGIN + timedelta(seconds=40)
    page = await auditor.page(until=until, page_size=100)
    assert 0 < page.ByteSize() <= 512 * 1024
    assert page.next_page_token
    assert len(await auditor.events(until=until, page_size=100)) == 40


async def test_a_page_that_has_taken_long_enough_leads_on_from_where_it_came_to(house: House, auditor: Auditor) -> None:
    caller = as_caller(auditor)
    request = wire.ListAuditEventsRequest(resource="things/12345")
    found, pages = [], 0
    async with open_database(*house.store("console"), SystemClock()) as db:
        hasty = Trail(db, window=5_000, looking_s=0)
        while pages == 0 or request.page_token:
            page = await hasty.page(caller, request)
            found += [event.index for event in page.events]
            request.page_token, pages = page.next_page_token, pages + 1
    assert (found, pages) == ([12345], SIZE // 5_000)


def as_caller(auditor: Auditor) -> Caller:
    return Caller(auditor.person.tenant, "eve", frozenset({"auditor"}), frozenset())
