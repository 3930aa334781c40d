"""The audit trail read through the SDK, against the real room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from services.common.trail.merkle import verify_consistency, verify_inclusion
from soma_sdk import Denied, NotFound, Soma
from tests.house import House
from tests.sdk.conftest import Connect
from tests.sealing import seal

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def auditor(house: House, connect: Connect) -> AsyncIterator[Soma]:
    """With a trail of something, under two heads."""
    async with connect() as soma:
        for question in ("hello", "and again"):
            await soma.ask(question)
            await seal(house)
    async with connect("console", token=house.token("acme", "eve", ("auditor",))) as soma:
        yield soma


async def test_events_are_read_to_the_first_and_filters_hold(auditor: Soma) -> None:
    everything = [event async for event in auditor.audit.events()]
    assert [event.index for event in everything] == list(range(len(everything)))[::-1]

    middle = everything[len(everything) // 2]
    since = [event async for event in auditor.audit.events(since=middle.time)]
    until = [event async for event in auditor.audit.events(until=middle.time)]
    assert len(since) + len(until) == len(everything)
    assert [e async for e in auditor.audit.events(since=datetime(2999, 1, 1, tzinfo=UTC))] == []
    asked = [event async for event in auditor.audit.events(action="chat.asked", person=middle.person)]
    assert asked
    assert {(event.action, event.person) for event in asked} == {("chat.asked", middle.person)}


async def test_proofs_lead_to_heads_that_are_listed(auditor: Soma) -> None:
    newest, before, *_ = [head async for head in auditor.audit.heads()]

    proof = await auditor.audit.inclusion("audit/events/0")
    assert proof.head == newest
    assert verify_inclusion(0, newest.size, proof.leaf_hash, proof.hashes, newest.root)
    path = (await auditor.audit.consistency(before.size)).hashes
    assert verify_consistency(before.size, newest.size, path, before.root, newest.root)
    assert newest.key_id in {key.id for key in await auditor.audit.keys()}


async def test_who_may_not_read_it_and_what_is_not_there_are_our_errors(auditor: Soma, connect: Connect) -> None:
    with pytest.raises(NotFound):
        await auditor.audit.inclusion("audit/events/999999999")
    async with connect("console") as member:
        with pytest.raises(Denied):
            await member.audit.keys()
