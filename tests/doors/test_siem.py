"""The audit trail reaches a SIEM over real TLS: all of it, in order, and it holds up nothing when the SIEM does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.background import alongside
from services.common.clock import SystemClock, new_id, rfc3339
from services.common.consumer.consumer import Patience
from services.common.errors import Unavailable
from services.common.outbox import Row, row
from services.workers.siem.siem import BATCH, GROUP, TOPIC, consumer, open_receiver
from soma.events.v1alpha1.audit_pb2 import AuditEvent
from tests.archiving import World, open_world
from tests.fake_siem import FakeSiem, open_fake_siem

pytestmark = pytest.mark.asyncio(loop_scope="module")
HASTY = Patience(attempts=1)
"""An event that counts as failed is given up at once."""
KINDS = ("syslog", "webhook")

SOMETHING = {"status_id": 1, "metadata": {"uid": "1", "original_time": "2031-02-03T09:00:00Z", "event_code": "x"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("siem")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(one_world: World) -> World:
    await one_world.empty()
    return one_world


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def siem(kind: str, tmp_path: Path) -> AsyncIterator[FakeSiem]:
    async with open_fake_siem(kind, tmp_path / "siem") as fake:
        yield fake


only_webhook = pytest.mark.parametrize("kind", ["webhook"], indirect=True)
only_syslog = pytest.mark.parametrize("kind", ["syslog"], indirect=True)


async def test_every_audit_event_arrives_in_order_of_its_person(world: World, siem: FakeSiem) -> None:
    told = [await audited(world, 40) for _ in range(5)]
    async with telling(world, siem):
        await world.until(lambda: arrived(siem, *told))
    assert len(siem.ids) == 200
    for who in ("ada", "bob"):
        assert of(siem, who) == [row.id for rows in told for row in rows if row.key == f"acme/p_{who}"]
    assert {event["class_uid"] for event in siem.events} == {6003}


async def test_a_siem_that_hangs_holds_up_nothing_and_gets_all_when_it_is_back(world: World, siem: FakeSiem) -> None:
    siem.open.clear()
    padding = "x" * 50_000  # more in all than the system keeps for a connection that is not read
    async with telling(world, siem, send_s=2):
        told = [await audited(world, 60, padding)]
        await world.until(lambda: tried(siem, 2), 60)
        told.append(await audited(world, 60))
        assert await lag(world) == 120
        siem.open.set()
        await world.until(lambda: arrived(siem, *told), 60)
        await world.until(lambda: none_left(world), 60)
    ids = [row.id for rows in told for row in rows]
    assert set(siem.ids) == set(ids)
    assert list(dict.fromkeys(of(siem, "ada"))) == [row.id for rows in told for row in rows if "ada" in row.key]
    assert not await letters(world)


@only_syslog
async def test_a_connection_that_is_cut_is_opened_again_and_the_run_sent_again(world: World, siem: FakeSiem) -> None:
    siem.hang_up_after = 25
    told = await audited(world, 60, "x" * 20_000)
    async with telling(world, siem, send_s=2):
        await world.until(lambda: arrived(siem, told))
        await world.until(lambda: none_left(world))
        siem.hang_up_after = len(siem.events) + 1
        more = await audited(world, 1)
        await world.until(lambda: arrived(siem, more))
        await world.until(lambda: none_left(world))
        last = await audited(world, 1)
        await world.until(lambda: arrived(siem, last))
    assert len(siem.ids) <= 62 + BATCH
    assert siem.asked >= 3


@only_syslog
async def test_what_counts_as_sent_to_a_receiver_that_has_just_been_gone_has_arrived(
    world: World, siem: FakeSiem
) -> None:
    async with open_receiver(siem.url, siem.ca, None, 2.0) as receiver:
        for n in range(1, 6):
            await receiver.send([SOMETHING | {"n": n}])
            await world.until(lambda n=n: has(siem, n))  # type: ignore[misc]
            siem.reset()


@only_webhook
@pytest.mark.parametrize("status", [307, 403, 503])
async def test_a_webhook_that_takes_nothing_is_waited_for(world: World, siem: FakeSiem, status: int) -> None:
    siem.status = status
    told = await audited(world, 1)
    async with telling(world, siem):
        await world.until(lambda: tried(siem, 2))
        assert await lag(world) == 1
        siem.status = 200
        await world.until(lambda: arrived(siem, told))
    assert len(siem.ids) == 1
    assert not siem.strayed
    assert not await letters(world)


@only_webhook
async def test_an_event_that_the_siem_refuses_is_a_dead_letter_and_blocks_nobody(world: World, siem: FakeSiem) -> None:
    told = await audited(world, 20)
    siem.poison = told[6].id
    async with telling(world, siem):
        await world.until(lambda: arrived(siem, [row for row in told if row.id != siem.poison]))
        await world.until(lambda: has_dead(world))
    assert [str(letter["id"]) for letter in await letters(world)] == [siem.poison]
    assert len(siem.ids) == 19


@only_webhook
async def test_the_token_goes_along_as_the_file_says_it_now(world: World, siem: FakeSiem, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    async with telling(world, siem, token_file=token):
        told = await audited(world, 1)
        await world.until(lambda: arrived(siem, told))
        token.write_text("two")
        more = await audited(world, 1)
        await world.until(lambda: arrived(siem, more))
    assert list(dict.fromkeys(siem.tokens)) == ["Bearer one", "Bearer two"]


async def test_a_consumer_that_starts_anew_goes_on_where_it_was(world: World, siem: FakeSiem) -> None:
    first = await audited(world, 20)
    async with telling(world, siem):
        await world.until(lambda: none_left(world))
    second = await audited(world, 20)
    async with telling(world, siem):
        await world.until(lambda: none_left(world))
    assert sorted(siem.ids) == sorted(row.id for row in (*first, *second))


async def test_a_siem_whose_certificate_is_not_trusted_is_told_nothing(
    siem: FakeSiem, kind: str, tmp_path: Path
) -> None:
    async with open_fake_siem(kind, tmp_path / "other", host="127.0.0.2") as other:
        for ca, url in ((other.ca, siem.url), (other.ca, other.url)):
            async with open_receiver(url, ca, None, 10.0) as receiver:
                with pytest.raises(Unavailable, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
                    await receiver.send([SOMETHING])
    assert not siem.events
    assert not other.events


@pytest.mark.parametrize("url", ["http://host/x", "syslog://host", "syslog+tls://", "https://", "host:6514"])
async def test_what_is_no_siem_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no SIEM"):
        async with open_receiver(url, None, None):
            pass


# What the tests stand on.


@asynccontextmanager
async def telling(
    world: World, siem: FakeSiem, send_s: float = 5.0, token_file: Path | None = None
) -> AsyncIterator[None]:
    async with (
        open_receiver(siem.url, siem.ca, token_file, send_s) as receiver,
        alongside(consumer(world.db, world.log, world.sight, receiver, HASTY).run(), name="siem"),
    ):
        yield


async def audited(world: World, count: int, padding: str = "") -> Sequence[Row]:
    """Audit events of two people in turn."""
    rows = []
    for n in range(count):
        event = AuditEvent(
            id=str(new_id()), action="pane.updated", version=1, time=rfc3339(SystemClock().now()), tenant="acme",
            subject=f"p_{'ada' if n % 2 else 'bob'}", resource=f"conversations/{n}{padding}", outcome="done",
        )  # fmt: skip
        rows.append(row(event, ""))
    await world.tell(*rows)
    return rows


def of(siem: FakeSiem, who: str) -> list[str]:
    return [event["metadata"]["uid"] for event in siem.events if event["actor"]["user"]["uid"] == f"p_{who}"]


async def arrived(siem: FakeSiem, *told: Sequence[Row]) -> bool:
    return {row.id for rows in told for row in rows} <= set(siem.ids)


async def has(siem: FakeSiem, n: int) -> bool:
    return [event["n"] for event in siem.events] == list(range(1, n + 1))


async def tried(siem: FakeSiem, times: int) -> bool:
    return siem.asked >= times


async def lag(world: World) -> int:
    standing, ends = await world.log.standing(GROUP), await world.log.ends(TOPIC)
    return sum(end - standing.get(place, first) for place, (first, end) in ends.items())


async def none_left(world: World) -> bool:
    return await lag(world) == 0


async def letters(world: World) -> Sequence[dict[str, object]]:
    return [dict(row) for row in await world.db.look('SELECT id, state FROM soma.retries WHERE "group" = $1', GROUP)]


async def has_dead(world: World) -> bool:
    return [letter["state"] for letter in await letters(world)] == ["dead"]
