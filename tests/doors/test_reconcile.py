"""Reconciliation over real rooms: what it finds when the log and the stores disagree, and what it puts right."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.common import events, schema
from services.common.cache import Cache, open_cache
from services.common.caller import Caller
from services.common.clock import new_id, rfc3339
from services.common.log.log import Entry
from services.common.log.postgres.log import PostgresLog, open_postgres_log
from services.workers.reconcile.findings import Finding
from services.workers.reconcile.gaps import uncovered
from services.workers.reconcile.reconcile import Reconciler, Report
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.agent.v1.chat_service_pb2 import CancelTurnRequest
from soma.canvas.v1 import canvas_service_pb2 as canvas_wire
from soma.canvas.v1.canvas_pb2 import Pane
from tests.asking import ask, begin
from tests.house import ROOMS, House, Person
from tests.sealing import seal, workers_database

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION = "What is lost?"
LOSE = """
WITH gone AS (DELETE FROM soma.{table} WHERE tenant = $1 AND type = $2 AND {topic} <> 'agent.audit' RETURNING 1)
SELECT count(*) FROM gone
"""
TOLD = """
SELECT payload::text AS body, id FROM soma.outbox
WHERE tenant = $1 AND type = $2 AND (aggregatetype = 'agent.audit') = $3
UNION ALL
SELECT payload::text, id FROM soma.log WHERE tenant = $1 AND type = $2 AND (topic = 'agent.audit') = $3
ORDER BY id
"""
WRITTEN = {"routing.decided": "create_time", "routing.settled": "settle_time"}
KINDS = (
    "conversation.created", "turn.asked", "turn.answered", "routing.decided", "routing.settled", "pane.created",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant of its own in the house."""

    house: House
    tenant: str
    log: PostgresLog
    cache: Cache

    @property
    def person(self) -> Person:
        return self.house.person(self.tenant)

    @property
    def reconciler(self) -> Reconciler:
        return Reconciler(self.log.db, self.log, self.cache, None, grace=timedelta(0))

    async def ask(self, text: str, conversation: str = "") -> list[ChatEvent]:
        """Until the turn's call is settled."""
        said = await ask(self.person, text, conversation=conversation)
        await self.house.until_settled(said[0].accepted.turn, self.tenant)
        return said

    async def compare(self, *, repair: bool = False) -> Report:
        return await self.reconciler.compare(self.tenant, repair=repair)

    async def findings(self, *, repair: bool = False) -> list[Finding]:
        return (await self.compare(repair=repair)).findings

    async def kinds(self) -> list[tuple[str, str]]:
        return sorted((one.kind, one.event) for one in await self.findings())

    async def lose(self, kind: str, tenant: str = "") -> int:
        """Events of a type, as if they had never been told. How many."""
        async with schema.administering(self.house.admin_url) as conn:
            lost = [
                await conn.fetchval(LOSE.format(table=table, topic=topic), tenant or self.tenant, kind)
                for table, topic in (("outbox", "aggregatetype"), ("log", "topic"))
            ]
        return sum(lost)

    async def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of a type, or what the audit trail was told of an action that is no event's."""
        of_trail = kind.startswith("reconcile.")
        rows = await self.house.rows(TOLD, self.tenant, kind, of_trail)
        return [json.loads(row["body"]) for row in rows]

    async def written(self, kind: str) -> str:
        """When the row was written of which the router tells a moment before; empty for what others tell."""
        if kind not in WRITTEN:
            return ""
        [row] = await self.house.rows(f"SELECT {WRITTEN[kind]} AS time FROM t_{self.tenant}.decisions")
        return rfc3339(row["time"])

    async def execute(self, statement: str, *values: object) -> None:
        """In the tenant's schema, past the rooms."""
        async with schema.administering(self.house.admin_url) as conn, conn.transaction():
            await conn.execute(f"SET LOCAL search_path = t_{self.tenant}")
            await conn.execute(statement, *values)

    async def pane(self, conversation: str) -> Pane:
        request = canvas_wire.CreatePaneRequest(
            parent=conversation, pane=Pane(title="notes", text="one", kind="code"), request_id=str(new_id())
        )
        return await self.person.canvas.CreatePane(request, metadata=self.person.metadata, timeout=10)


@asynccontextmanager
async def tenant_of(scene: Scene) -> AsyncIterator[Scene]:
    """The same for another tenant, of whom nobody has heard yet."""
    tenant = f"ops_{secrets.token_hex(4)}"
    await schema.add_tenant(scene.house.admin_url, tenant, ROOMS)
    yield replace(scene, tenant=tenant)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doors(house: House) -> AsyncIterator[Scene]:
    """With a log that began before whatever a test does."""
    cache_url = house.environment["agent"]["SOMA_CACHE_URL"]
    async with (
        workers_database(house) as db,
        open_postgres_log(db) as log,
        open_cache(cache_url, connections=2) as cache,
    ):
        await ask(house.person("acme"), "hello")
        await seal(house)
        yield Scene(house, "acme", log, cache)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(doors: Scene) -> AsyncIterator[Scene]:
    async with tenant_of(doors) as scene:
        yield scene


async def test_a_clean_mesh_reports_nothing(scene: Scene) -> None:
    said = await scene.ask(QUESTION)
    await scene.pane(said[0].accepted.conversation)
    await scene.ask("and then?", conversation=said[0].accepted.conversation)
    assert await scene.findings() == [], "while all waits for the relay"
    await seal(scene.house)
    report = await scene.compare()
    assert report.findings == []
    assert report.compared.pop("audit events") > 4
    assert report.compared == {"tenants": 1, "conversations": 1, "turns": 2, "decisions": 2, "panes": 1}


async def test_a_lost_event_is_found_and_told_again_as_it_was(scene: Scene) -> None:
    said = await scene.ask(QUESTION)
    await scene.pane(said[0].accepted.conversation)
    await seal(scene.house)
    for kind in KINDS:
        [before] = await scene.told(kind)
        assert await scene.lose(kind) == 1
        [found] = await scene.findings()
        assert (found.kind, found.event, found.repaired) == ("event_missing", kind, False)

        [mended] = await scene.findings(repair=True)
        assert mended.repaired
        [again] = await scene.told(kind)
        assert again["subject"] == "system:workers"
        assert bare(again) == bare(before)
        assert again["time"] <= (await scene.written(kind) or before["time"])
        assert await scene.findings() == []
        audited = (await scene.told("reconcile.repaired"))[-1]
        assert (audited["resource"], audited["subject"]) == (found.resource, "system:workers")


def bare(event: dict[str, Any]) -> dict[str, Any]:
    """Without what is another's when it is told again; a title is told too."""
    return {name: event[name] for name in event if name not in ("id", "subject", "text", "time", "sizeBytes")}


async def test_what_is_told_again_is_sealed_with_the_key_of_who_wrote_it(scene: Scene) -> None:
    await scene.ask(QUESTION)
    [before] = await scene.told("turn.asked")
    await scene.lose("turn.asked")
    await scene.findings(repair=True)
    [again] = await scene.told("turn.asked")
    assert again["text"].split(".")[1] == before["subject"]
    assert again["sizeBytes"] == before["sizeBytes"]
    async with scene.log.db.own(Caller.system("workers", "")) as tx:
        assert await events.opened(tx, json.dumps(again).encode()) == QUESTION


async def test_two_who_repair_at_once_tell_it_once(scene: Scene) -> None:
    await scene.ask(QUESTION)
    await scene.lose("turn.asked")
    await asyncio.gather(*(scene.compare(repair=True) for _ in range(3)))
    assert len(await scene.told("turn.asked")) == 1


async def test_a_turn_that_runs_is_no_finding_and_a_turn_just_asked_has_its_grace(scene: Scene) -> None:
    turn, _, _ = await begin(scene.person, "script:words=2000 script:pace=50")
    assert await scene.findings() == []
    await scene.lose("turn.asked")
    assert await scene.kinds() == [("event_missing", "turn.asked")]
    patient = replace(scene.reconciler, grace=timedelta(minutes=1))
    assert (await patient.compare(scene.tenant)).findings == []
    await scene.person.chat.CancelTurn(CancelTurnRequest(name=turn), metadata=scene.person.metadata)


async def test_a_deleted_conversation_is_no_finding_and_one_that_vanished_is(scene: Scene) -> None:
    first, second = [(await scene.ask(QUESTION))[0].accepted.conversation for _ in range(2)]
    request = conversation_wire.DeleteConversationRequest(name=first, request_id=str(new_id()))
    await scene.person.conversations.DeleteConversation(request, metadata=scene.person.metadata, timeout=10)
    assert await scene.findings() == []
    await scene.execute("DELETE FROM conversations WHERE id = $1", UUID(second.partition("/")[2]))
    [found] = await scene.findings(repair=True)
    assert (found.kind, found.resource, found.repaired) == ("row_missing", second, False)


async def test_a_newer_version_that_was_not_told_is_found(scene: Scene) -> None:
    said = await scene.ask(QUESTION)
    await scene.pane(said[0].accepted.conversation)
    await scene.execute("UPDATE panes SET text = 'two', version = 2, version_time = clock_timestamp()")
    assert await scene.kinds() == [("event_missing", "pane.created")]
    await scene.findings(repair=True)
    assert [event["sizeBytes"] for event in await scene.told("pane.updated")] == [3]
    assert await scene.findings() == []


async def test_nothing_of_another_tenant_is_looked_at_or_touched(scene: Scene) -> None:
    async with tenant_of(scene) as other:
        await scene.ask(QUESTION)
        await other.ask(QUESTION)
        assert await scene.lose("turn.asked", other.tenant) == 1
        assert await scene.findings(repair=True) == []
        assert await other.told("turn.asked") == []
        assert [one.tenant for one in await other.findings()] == [other.tenant]


async def test_an_event_that_cannot_be_read_is_a_finding_and_ends_nothing(scene: Scene) -> None:
    await scene.ask(QUESTION)
    assert await scene.lose("turn.answered") == 1
    ids = sorted(str(new_id()) for _ in range(2))
    put = """INSERT INTO soma.outbox (id, aggregatetype, aggregateid, type, payload, tenant, slot)
             VALUES ($1, 'agent.messages', $2 || '/x', 'turn.asked', $3::json, $2, 0)"""
    async with schema.administering(scene.house.admin_url) as conn:
        for id, payload in zip(ids, ("[1,2]", '{"turn":' + "[" * 5000 + "]" * 5000 + "}"), strict=True):
            await conn.execute(put, id, scene.tenant, payload)
        try:
            missing, unread = sorted(await scene.findings(), key=lambda one: one.kind)
        finally:
            await conn.execute("DELETE FROM soma.outbox WHERE id = ANY ($1::uuid[])", ids)
    assert (missing.kind, missing.event) == ("event_missing", "turn.answered")
    assert (unread.tenant, unread.kind, unread.resource) == (scene.tenant, "unreadable", f"events/{ids[0]}")
    assert "2 such" in unread.says
    assert unread.advice


async def test_an_audit_event_without_a_leaf_is_found_and_one_without_an_event_too(scene: Scene) -> None:
    await scene.ask(QUESTION)
    await seal(scene.house)
    async with schema.administering(scene.house.admin_url) as conn:
        [first, second] = await conn.fetch(
            "SELECT id FROM soma.audit WHERE tenant = $1 ORDER BY index LIMIT 2", scene.tenant
        )
        kept = await conn.fetch("DELETE FROM soma.audit WHERE id = $1 RETURNING *", first["id"])
        await conn.execute("DELETE FROM soma.log WHERE id = $1", second["id"])
    assert await scene.kinds() == [("unlogged", ""), ("unsealed", "")]
    assert {one.resource for one in await scene.findings()} == {f"audit/{first['id']}", f"audit/{second['id']}"}
    async with schema.administering(scene.house.admin_url) as conn:
        places = ", ".join(f"${n + 1}" for n in range(len(kept[0])))
        await conn.execute(f"INSERT INTO soma.audit VALUES ({places})", *kept[0].values())


async def test_a_stream_that_was_left_behind_is_removed_and_a_live_one_stays(scene: Scene) -> None:
    turn, _, _ = await begin(scene.person, "script:words=2000 script:pace=50")
    live = f"{{{scene.tenant}}}:turn:{turn.rpartition('/')[2]}:events"
    old = f"{{{scene.tenant}}}:turn:00000000-0001-7000-8000-{secrets.token_hex(6)}:events"
    await scene.cache.append(old, 1, [b"x"])
    [found] = await scene.findings()
    assert (found.kind, found.resource) == ("stale_key", old)
    [mended] = await scene.findings(repair=True)
    assert mended.repaired
    assert await scene.cache.after(old, 0) == []
    assert await scene.cache.after(live, 0)
    await scene.person.chat.CancelTurn(CancelTurnRequest(name=turn), metadata=scene.person.metadata)


async def test_without_valkey_everything_else_is_still_compared(scene: Scene) -> None:
    await scene.ask(QUESTION)
    await scene.lose("turn.asked")
    async with open_cache("redis://127.0.0.1:1/0") as away:
        report = await replace(scene.reconciler, cache=away).compare(scene.tenant)
    assert [one.event for one in report.findings] == ["turn.asked"]
    assert report.skipped


async def test_when_too_much_is_missing_nothing_is_told_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.workers.reconcile import reconcile

    monkeypatch.setattr(reconcile, "MOST_REPAIRS", 1)
    await scene.ask(QUESTION)
    await scene.lose("turn.asked")
    await scene.lose("turn.answered")
    assert [one.repaired for one in await scene.findings(repair=True)] == [False, False]
    assert await scene.told("turn.asked") == []


async def test_what_the_archive_does_not_have_is_found(scene: Scene) -> None:
    await scene.ask(QUESTION)
    await seal(scene.house)
    eager = replace(scene.reconciler, archived=timedelta(0))
    entries = await messages(scene)
    found = [one for one in (await eager.compare(scene.tenant)).findings if one.kind == "unarchived"]
    assert f"agent.messages/{entries[0].part}" in {one.resource for one in found}
    async with schema.administering(scene.house.admin_url) as conn:
        for one in found:
            topic, _, part = one.resource.partition("/")
            await conn.execute(
                "INSERT INTO soma.archived SELECT $1, 'postgres', $2, $3, $4, date_trunc('hour', now()), "
                "min(\"offset\"), max(\"offset\"), 1, decode(repeat('00', 32), 'hex'), 1 "
                "FROM soma.log WHERE tenant = $2 AND topic = $3 AND part = $4",
                f"{scene.tenant}/{one.resource}", scene.tenant, topic, int(part),
            )  # fmt: skip
    assert (await eager.compare(scene.tenant)).findings == []


async def test_an_offset_is_archived_when_a_segment_has_it() -> None:
    assert uncovered([1, 2, 5, 7, 9, 12], [(2, 5), (8, 10)]) == [1, 7, 12]
    assert uncovered([1, 6], [(0, 9), (2, 3)]) == []
    assert uncovered([4], []) == [4]


async def messages(scene: Scene) -> list[Entry]:
    found = list[Entry]()
    for place, (first, _) in (await scene.log.ends("agent.messages")).items():
        found += [entry for entry in await scene.log.read(place, first, 10_000) if entry.tenant == scene.tenant]
    return found
