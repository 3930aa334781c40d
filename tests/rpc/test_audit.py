"""The audit trail as an auditor sees it, and proofs of it that need no trust in the room."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha3_512, sha256
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from services.common import schema
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import open_database
from services.common.people.forgetting import forget
from services.common.testing import refused
from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.merkle import verify_consistency, verify_inclusion
from services.common.trail.signing import VerifierKey, signer_of
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.console.v1 import audit_service_pb2 as wire
from soma.console.v1.audit_pb2 import AuditEvent, TreeHead
from tests.asking import ask
from tests.house import ROOMS, House, Person
from tests.sealing import pseudonym_of, seal, workers_database

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True, slots=True)
class Auditor:
    """Asks as somebody with the role."""

    person: Person

    async def page(self, **fields: Any) -> wire.ListAuditEventsResponse:
        request = wire.ListAuditEventsRequest(**fields)
        return await self.person.audit.ListAuditEvents(request, metadata=self.person.metadata)

    async def events(self, **fields: Any) -> list[AuditEvent]:
        """Of all pages."""
        found: list[AuditEvent] = []
        token = ""
        while True:
            page = await self.page(page_token=token, **fields)
            found += page.events
            token = page.next_page_token
            if not token:
                return found

    async def get(self, name: str) -> AuditEvent:
        return await self.person.audit.GetAuditEvent(
            wire.GetAuditEventRequest(name=name), metadata=self.person.metadata
        )

    async def heads(self, **fields: Any) -> Sequence[TreeHead]:
        request = wire.ListTreeHeadsRequest(**fields)
        return (await self.person.audit.ListTreeHeads(request, metadata=self.person.metadata)).heads

    async def inclusion(self, name: str, size: int = 0) -> wire.InclusionProof:
        request = wire.GetInclusionProofRequest(name=name, tree_size=size)
        return await self.person.audit.GetInclusionProof(request, metadata=self.person.metadata)

    async def consistency(self, first: int = 0, second: int = 0) -> wire.ConsistencyProof:
        request = wire.GetConsistencyProofRequest(first_size=first, second_size=second)
        return await self.person.audit.GetConsistencyProof(request, metadata=self.person.metadata)

    async def keys(self) -> list[VerifierKey]:
        answer = await self.person.audit.ListAuditKeys(wire.ListAuditKeysRequest(), metadata=self.person.metadata)
        return [VerifierKey.parse(key.public_key) for key in answer.keys]


async def new_tenant(house: House) -> str:
    name = f"audited_{uuid.uuid4().hex[:8]}"
    await schema.add_tenant(house.admin_url, name, ROOMS)
    return name


def auditor_of(house: House, tenant: str) -> Auditor:
    return Auditor(house.person(tenant, "eve", ("auditor",)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(house: House) -> str:
    """With ann's and bob's questions, a refused change of bob's, and a key that was changed: under four heads."""
    name = await new_tenant(house)
    for person in (house.person(name, "ann"), house.person(name, "bob")):
        await ask(person, "What is a turn?")
        await seal(house)
    missing = conversation_wire.DeleteConversationRequest(name=f"conversations/{uuid.uuid4()}")
    bob = house.person(name, "bob")
    with refused(StatusCode.NOT_FOUND, "CONVERSATION_UNKNOWN"):
        await bob.conversations.DeleteConversation(missing, metadata=bob.metadata)
    await seal(house)
    async with workers_database(house) as db:
        await pseudonym_of(house).rotate(db, Caller.system("workers", name))
    return name


@pytest.fixture
def auditor(house: House, tenant: str) -> Auditor:
    return auditor_of(house, tenant)


async def test_events_come_newest_first_as_they_were_sealed(auditor: Auditor) -> None:
    events = await auditor.events()

    assert [event.index for event in events] == list(range(len(events)))[::-1]
    for event in events:
        told = json.loads(event.canonical)
        texts = ("id", "action", "subject", "workload", "resource", "outcome", "reason", "trace")
        assert {text: getattr(event, text) for text in texts} == {text: told.get(text, "") for text in texts}
        assert event.time.ToJsonString() == told["time"]
        assert await auditor.get(event.name) == event
    assert {event.person for event in events} == {f"ann@{told['tenant']}", f"bob@{told['tenant']}", ""}
    assert events[0].subject == "system:workers"


async def test_a_page_holds_what_was_asked_for_and_leads_to_the_next(auditor: Auditor) -> None:
    everything = await auditor.events()

    assert await auditor.events(page_size=2) == everything
    first = await auditor.page(page_size=2)
    assert (len(first.events), len((await auditor.page(page_size=100)).events)) == (2, len(everything))
    with refused(StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"):
        await auditor.page(page_size=2, page_token=first.next_page_token, outcome="done")


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"person": "ann"}, lambda e: e.person.startswith("ann@")),
        ({"person": "system:workers"}, lambda e: e.subject == "system:workers"),
        ({"person": "nobody"}, lambda e: False),
        ({"action": "chat.asked"}, lambda e: e.action == "chat.asked"),
        ({"action": "chat."}, lambda e: e.action.startswith("chat.")),
        ({"action": "chat"}, lambda e: False),
        ({"action": "routing.", "person": "bob"}, lambda e: e.action[:8] == "routing." and e.person[:4] == "bob@"),
        ({"outcome": "refused"}, lambda e: e.reason == "CONVERSATION_UNKNOWN"),
        ({"outcome": "done"}, lambda e: e.outcome == "done"),
    ],
)
async def test_a_filter_lets_pass_what_has_it_all(
    auditor: Auditor, tenant: str, filters: dict[str, str], passes: Any
) -> None:
    if filters.get("person") in ("ann", "bob"):
        filters = {**filters, "person": f"{filters['person']}@{tenant}"}

    found = await auditor.events(page_size=2, **filters)

    assert found == [event for event in await auditor.events() if passes(event)]


async def test_a_resource_and_a_time_are_filters_too(auditor: Auditor) -> None:
    everything = await auditor.events()
    middle = everything[len(everything) // 2]

    assert await auditor.events(resource=middle.resource) == [e for e in everything if e.resource == middle.resource]
    since, until = await auditor.events(since=middle.time), await auditor.events(until=middle.time)
    assert middle in since
    assert sorted([*since, *until], key=lambda event: -event.index) == everything
    assert all(event.time.ToDatetime() < middle.time.ToDatetime() for event in until)
    assert not await auditor.events(since=middle.time, until=middle.time)


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63), 253_402_300_800, -62_135_596_801])
async def test_a_time_that_is_none_is_refused(auditor: Auditor, seconds: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID") as held:
        await auditor.page(until=Timestamp(seconds=seconds))
    assert held[0].metadata["field"] == "until"


async def test_every_event_is_proven_under_every_head_that_holds_it(auditor: Auditor) -> None:
    leaves = leaf_hashes(await auditor.events())
    heads = await auditor.heads()
    assert [head.size for head in heads] == sorted((head.size for head in heads), reverse=True)

    for head in heads:
        assert head.root == tree_hash(leaves[: head.size])
        for index, leaf in enumerate(leaves[: head.size]):
            proof = await auditor.inclusion(f"audit/events/{index}", head.size)
            assert (proof.head, proof.index, proof.leaf_hash) == (head, index, leaf)
            assert root_by(proof.hashes, index, head.size, leaf) == head.root
            assert verify_inclusion(index, head.size, leaf, proof.hashes, head.root)
    newest = await auditor.inclusion("audit/events/0")
    assert newest.head == heads[0]


async def test_every_head_is_proven_to_begin_every_later_one(auditor: Auditor) -> None:
    heads = (await auditor.heads())[::-1]

    for n, first in enumerate(heads):
        for second in heads[n:]:
            proof = await auditor.consistency(first.size, second.size)
            assert (proof.first, proof.second) == (first, second)
            assert verify_consistency(first.size, second.size, proof.hashes, first.root, second.root)
    assert await auditor.consistency() == await auditor.consistency(heads[0].size, heads[-1].size)
    with refused(StatusCode.NOT_FOUND, "TREE_SIZE_UNKNOWN"):
        await auditor.consistency(heads[1].size, heads[0].size)


async def test_heads_are_signed_by_keys_that_are_listed_and_the_chain_runs_through_all_events(auditor: Auditor) -> None:
    events, heads, keys = (await auditor.events())[::-1], await auditor.heads(), await auditor.keys()
    chain, chains = bytes(64), [bytes(64)]
    for event, leaf in zip(events, leaf_hashes(events[::-1]), strict=True):
        chain = sha3_512(chain + leaf).digest()
        chains.append(chain)
        assert event.chain == chain

    assert len(keys) == 2
    for n, head in enumerate(heads):
        note = Note.parse(head.checkpoint)
        told = Checkpoint.parse(note.text)
        assert (told.size, told.root, told.chain) == (head.size, head.root, chains[head.size])
        assert head.time.ToJsonString() == note.text.splitlines()[4].removeprefix("time ")
        signer = signer_of(note, keys)
        assert signer
        assert (head.key_name, head.key_id) == (signer.name, signer.id.hex())
        assert signer == (keys[0] if n == 0 else keys[1])


async def test_a_key_says_which_heads_it_signs(auditor: Auditor) -> None:
    listed = await auditor.person.audit.ListAuditKeys(wire.ListAuditKeysRequest(), metadata=auditor.person.metadata)
    newest = (await auditor.heads(page_size=1))[0].size

    assert [(key.first_size, key.HasField("last_size")) for key in listed.keys] == [(newest, False), (1, True)]
    assert listed.keys[1].last_size == newest


async def test_sizes_without_a_head_are_not_found(auditor: Auditor) -> None:
    sizes = [head.size for head in await auditor.heads()]
    for size in (sizes[0] + 1, sizes[-1] + 1, 2**63 - 1):
        for call in (auditor.inclusion("audit/events/0", size), auditor.consistency(sizes[-1], size)):
            with refused(StatusCode.NOT_FOUND, "TREE_SIZE_UNKNOWN"):
                await call
    with refused(StatusCode.NOT_FOUND, "TREE_SIZE_UNKNOWN"):
        await auditor.inclusion(f"audit/events/{sizes[-1]}", sizes[-1])


@pytest.mark.parametrize(
    "name",
    ["audit/events/-1", "audit/events/01", "audit/events/9999", "audit/events/9999999999999999999", "audit/events/",
     "audit/events/1/", "audit/events/\u0661", "audit/heads/1", "audit/events/0\n", "1", f"audit/events/{'9' * 80}"],
)  # fmt: skip
async def test_a_name_that_is_nothing_here_is_not_found(auditor: Auditor, name: str) -> None:
    for call in (auditor.get(name), auditor.inclusion(name)):
        with refused(StatusCode.NOT_FOUND, "EVENT_UNKNOWN"):
            await call


async def test_another_tenant_has_a_trail_of_its_own(house: House, auditor: Auditor) -> None:
    beside = auditor_of(house, await new_tenant(house))

    assert (await beside.events(), await beside.heads(), await beside.keys()) == ([], [], [])
    for call in (beside.get("audit/events/0"), beside.inclusion("audit/events/0")):
        with refused(StatusCode.NOT_FOUND, "EVENT_UNKNOWN"):
            await call
    with refused(StatusCode.NOT_FOUND, "TREE_SIZE_UNKNOWN"):
        await beside.consistency()

    await ask(house.person(beside.person.tenant, "carl"), "hello")
    await seal(house)
    names = {event.person for event in await beside.events()}
    assert names == {f"carl@{beside.person.tenant}"}
    mine = {event.id for event in await auditor.events()}
    assert not mine & {event.id for event in await beside.events()}


async def test_members_are_refused_and_admins_are_not(house: House, tenant: str) -> None:
    with refused(StatusCode.PERMISSION_DENIED, "ROLE_REFUSED"):
        await Auditor(house.person(tenant, "ann")).page()
    assert (await Auditor(house.person(tenant, "root", ("admin",))).page()).events


async def test_no_other_room_reads_the_trail_of_the_tenant_it_serves(house: House, tenant: str) -> None:
    ann = Caller(tenant, "ann", frozenset({"member"}), frozenset())
    for room, sees in (("console", True), ("agent", False), ("router", False), ("canvas", False)):
        async with open_database(*house.store(room), SystemClock(), connections=2) as db, db.tenant(ann) as tx:
            assert bool(await tx.fetch("SELECT index FROM soma.audit LIMIT 1")) is sees, room
            assert bool(await tx.fetch("SELECT size FROM soma.tree_heads LIMIT 1")) is sees, room


async def test_who_was_forgotten_has_no_name_any_more_and_every_proof_holds(house: House) -> None:
    tenant = await new_tenant(house)
    auditor = auditor_of(house, tenant)
    for name in ("gone", "stays"):
        await ask(house.person(tenant, name), "hello")
    await seal(house)
    assert {event.person for event in await auditor.events()} == {f"gone@{tenant}", f"stays@{tenant}"}
    admin = await asyncpg.connect(house.admin_url)
    try:
        assert await forget(admin, tenant, f"gone@{tenant}")
    finally:
        await admin.close()

    events = await auditor.events()

    assert {event.person for event in events} == {"", f"stays@{tenant}"}
    assert not await auditor.events(person=f"gone@{tenant}")
    leaves = leaf_hashes(events)
    for event in events:
        proof = await auditor.inclusion(event.name)
        assert root_by(proof.hashes, event.index, proof.head.size, leaves[event.index]) == proof.head.root


def leaf_hashes(events: Sequence[AuditEvent]) -> list[bytes]:
    """By index, from events that are newest first."""
    return [sha256(b"\x00" + event.canonical).digest() for event in reversed(events)]


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962, 2.1 defines it."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def root_by(path: Sequence[bytes], index: int, size: int, leaf: bytes) -> bytes:
    """PATH of RFC 6962, 2.1.1, walked from its end."""
    if size == 1:
        assert not path
        return leaf
    split = 1
    while split * 2 < size:
        split *= 2
    if index < split:
        return sha256(b"\x01" + root_by(path[:-1], index, split, leaf) + path[-1]).digest()
    return sha256(b"\x01" + path[-1] + root_by(path[:-1], index - split, size - split, leaf)).digest()
