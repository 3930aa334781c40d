"""The SLA monitor on a real Postgres: what it counts of the log, however often and in whatever order events come."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.common import schema
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id, rfc3339
from services.common.consumer.consumer import Consumer
from services.common.consumer.replay import Wish, replay
from services.common.log.log import Entry
from services.common.testing import lines_said
from services.workers.slo import sla
from services.workers.slo.slo import SLOS, Share
from soma.events.v1alpha1.audit_pb2 import AuditEvent
from soma.events.v1alpha1.message_pb2 import MessageEvent
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from tests.consuming import HASTY, World, open_world, running
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = Caller.system("workers", "")
NAMES = [slo.name for slo in SLOS]
HOURS = """
SELECT tenant, measure, bucket, sum(count)::bigint AS count FROM soma.slo_hours GROUP BY 1, 2, 3 HAVING sum(count) <> 0
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("sla")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(postgres: World) -> World:
    """With nothing in it."""
    async with schema.administering(postgres.admin_url) as conn:
        await conn.execute(
            "TRUNCATE soma.outbox, soma.log, soma.log_heads, soma.log_groups, soma.log_members, soma.handled, "
            "soma.slo_hours, soma.slo_turns, soma.slo_audit, soma.audit"
        )
    await postgres.log.make_topics()
    return postgres


def turn(tenant: str, who: str, outcome: str = "answered", first_s: float = 1.0, took_s: float = 3.0) -> list[Any]:
    """All that is told of a turn that was asked a moment ago."""
    asked, conversation, decision = SystemClock().now() - timedelta(seconds=10), new_id(), str(new_id())
    name = f"conversations/{conversation}/turns/{new_id()}"

    def message(kind: str, after_s: float) -> MessageEvent:
        return MessageEvent(
            id=str(new_id()), type=kind, version=1, time=rfc3339(asked + timedelta(seconds=after_s)), tenant=tenant,
            subject=who, conversation=f"conversations/{conversation}", turn=name,
        )  # fmt: skip

    def routing(kind: str, **more: Any) -> RoutingEvent:
        return RoutingEvent(
            id=str(new_id()), type=kind, version=1, time=rfc3339(asked + timedelta(seconds=0.5)), tenant=tenant,
            subject=who, decision=decision, turn=name, requested_tier="slm", provider="p", model="m", tier="slm",
            **more,
        )  # fmt: skip

    return [
        message("turn.asked", 0),
        routing("routing.decided"),
        routing("routing.settled", first_token_ms=round((first_s - 0.5) * 1000)),
        message(f"turn.{outcome}", took_s),
    ]


def audited(tenant: str = "acme", ago_s: float = 0.0) -> Any:
    time = SystemClock().now() - timedelta(seconds=ago_s)
    return AuditEvent(
        id=str(new_id()), action="chat.asked", version=1, time=rfc3339(time), tenant=tenant, subject="p_ada",
        resource="x", outcome="done",
    )  # fmt: skip


def monitor(world: World) -> Consumer:
    return Consumer(world.db, world.log, world.sight, sla.GROUP, sla.TOPICS, sla.count, patience=HASTY)


async def follow(world: World) -> None:
    """Until the monitor has seen everything."""

    async def through() -> bool:
        standing = await world.log.standing(sla.GROUP)
        ends = [end for topic in sla.TOPICS for end in (await world.log.ends(topic)).items()]
        return all(standing.get(place, first) >= end for place, (first, end) in ends)

    async with running(monitor(world)):
        await world.until(through)


async def hours(world: World) -> dict[tuple[str, str, str], int]:
    return {(row["tenant"], row["measure"], row["bucket"]): row["count"] for row in await world.db.look(HOURS)}


async def share(world: World, tenant: str, name: str) -> Share:
    found = await sla.Monitor(world.db, world.sight).look()
    return found[tenant][NAMES.index(name)].shares["30d"]


async def test_turns_count_for_their_tenant_by_how_they_ended_and_how_long_they_took(world: World) -> None:
    await world.put(
        *turn("acme", "p_ada", first_s=1.0), *turn("acme", "p_bea", first_s=3.0), *turn("acme", "p_bea", "failed"),
        *turn("globex", "p_cy", "cancelled"), *turn("globex", "p_cy")[:3],
    )  # fmt: skip
    await follow(world)
    assert await hours(world) == {
        ("acme", "answer_ms", "5000"): 2,
        ("acme", "first_token_ms", "1000"): 2,
        ("acme", "first_token_ms", "5000"): 1,
        ("acme", "turns", "answered"): 2,
        ("acme", "turns", "failed"): 1,
        ("globex", "first_token_ms", "1000"): 2,
        ("globex", "turns", "cancelled"): 1,
    }
    assert await share(world, "acme", "availability") == Share(2, 1)
    assert await share(world, "acme", "chat_latency") == Share(2, 1)
    assert await share(world, "globex", "availability") == Share(1, 0)


async def test_counts_after_a_replay_are_those_without_one(world: World) -> None:
    since = SystemClock().now() - timedelta(minutes=1)
    for n in range(12):
        await world.put(*turn("acme", f"p_{n}", "failed" if n % 4 == 0 else "answered"), audited(ago_s=n))
    await follow(world)
    before = await hours(world)
    for topic in sla.TOPICS:
        assert await replay(world.db, world.log, Wish(sla.GROUP, topic, since, SystemClock().now(), "")) == 12 * (
            2 if topic != "agent.audit" else 1
        )
    await follow(world)
    assert await hours(world) == before
    assert before["acme", "turns", "failed"] == 3


async def test_counts_are_the_same_in_whatever_order_topics_are_read(world: World) -> None:
    await world.put(*[event for n in range(10) for event in turn("acme", f"p_{n}", first_s=0.6 + n / 2)])
    entries = await everything(world)
    found = []
    for seed in range(4):
        async with schema.administering(world.admin_url) as conn:
            await conn.execute("TRUNCATE soma.slo_hours, soma.slo_turns")
        mixed = random.Random(seed).sample(entries, len(entries))
        for n in range(0, len(mixed), 7):
            async with world.db.own(ROOM) as tx:
                await sla.count(tx, mixed[n : n + 7])
        found.append(await hours(world))
    assert found == [found[0]] * 4
    assert sum(found[0].values()) == 30


async def test_an_audit_event_is_delivered_when_it_is_sealed_and_not_before(world: World) -> None:
    events: list[Any] = [audited(ago_s=ago_s) for ago_s in (0, 1, 60)]
    await world.put(*events)
    await follow(world)
    assert await share(world, "acme", "audit_delay") == Share(2, 1)
    assert await share(world, "acme", "audit_delivery") == Share(0, 0), "they have a minute"
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.slo_audit SET time = time - interval '2 minutes'")
        await conn.execute(
            "INSERT INTO soma.audit SELECT 'acme', 0, $1, '', decode(repeat('00', 32), 'hex'), "
            "decode(repeat('00', 64), 'hex'), now(), 'chat.asked', 'p_ada', 'x', 'done'", events[0].id,
        )  # fmt: skip
    assert await share(world, "acme", "audit_delivery") == Share(1, 2)
    assert await share(world, "acme", "audit_delivery") == Share(1, 2), "once"


async def test_a_look_catches_up_however_much_there_is(world: World) -> None:
    events: list[Any] = [audited() for _ in range(7)]
    await world.put(*events)
    await follow(world)
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.slo_audit SET time = time - interval '2 minutes'")
        await conn.execute(
            "INSERT INTO soma.audit SELECT 'acme', nth, id, '', decode(repeat('00', 32), 'hex'), "
            "decode(repeat('00', 64), 'hex'), now(), 'chat.asked', 'p_ada', 'x', 'done' "
            "FROM unnest($1::uuid[]) WITH ORDINALITY AS told (id, nth)", [event.id for event in events[2:]],
        )  # fmt: skip
    found = await sla.Monitor(world.db, world.sight, at_once=2).look()
    assert found["acme"][NAMES.index("audit_delivery")].shares["30d"] == Share(5, 2)


async def test_a_missed_slo_is_one_line_and_a_metric(world: World) -> None:
    await world.put(*[event for n in range(30) for event in turn("acme", f"p_{n}", "failed")])
    await world.put(*turn("globex", "p_cy"))
    await follow(world)
    monitor = sla.Monitor(world.db, world.sight)
    with lines_said() as lines:
        for _ in range(2):
            monitor.tell(await monitor.look())
    errors = [line for line in lines if line["level"] == "error"]
    assert {(line["tenant"], line["slo"], line["window"]) for line in errors} == {
        ("acme", "availability", window) for window in ("1h", "24h", "30d")
    }
    assert len(errors) == 3, "said once"
    value = world.registry.get_sample_value
    assert value("soma_slo_met", {"slo": "availability"}) == 0
    assert value("soma_slo_ratio", {"slo": "availability"}) == pytest.approx(1 / 31)
    assert value("soma_slo_alerts", {"slo": "availability"}) == 1
    assert value("soma_slo_met", {"slo": "chat_latency"}) == 1


async def everything(world: World) -> Sequence[Entry]:
    found = list[Entry]()
    for topic in sla.TOPICS:
        for place, (first, _) in (await world.log.ends(topic)).items():
            found += await world.log.read(place, first, 1000)
    return found
