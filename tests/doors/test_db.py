"""Postgres keeps tenants apart by itself, and a step is one transaction: state, event and audit row, or none."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.common import bell, ears, events
from services.common.call import Call, current
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import Database, open_database
from services.common.errors import Denied, Exists, Unavailable
from services.common.once import once
from services.common.people.subjects import Subjects
from services.common.people.wrapping import FileTenantKeys
from services.common.postgres import connect_once
from services.local.ports import free_port
from soma.agent.v1.chat_event_pb2 import Accepted
from soma.agent.v1.chat_service_pb2 import ChatRequest
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.house import House
from tests.sdk.wire import open_wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADA = Caller("acme", "ada", frozenset({"member"}), frozenset())
GUS = Caller("globex", "gus", frozenset({"member"}), frozenset())


NO_KEYS = Subjects(FileTenantKeys(Path("/nonexistent")))


def database(house: House):  # type: ignore[no-untyped-def]
    return open_database(*house.store("agent"), SystemClock(), connections=3)


def turn_asked() -> MessageEvent:
    return MessageEvent(type="turn.asked", conversation=f"conversations/{uuid.uuid4()}")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM t_globex.turns",
        "INSERT INTO t_globex.requests (subject, request_id, body_hash) VALUES ('x', gen_random_uuid(), '')",
        "UPDATE t_globex.conversations SET title = 'mine'",
        "DELETE FROM t_globex.turns",
        "INSERT INTO soma.outbox (id, tenant, aggregatetype, aggregateid, type, payload, slot) VALUES "
        "(gen_random_uuid(), 'globex', 't', 'k', 'y', '{}', 0)",
        "INSERT INTO soma.subjects (tenant, pseudonym, subject, wrapped) VALUES ('globex', 'p', 's', '')",
        "INSERT INTO soma.leases (tenant, resource, holder, expire_time) VALUES ('globex', 'r', 'h', now())",
        "SELECT * FROM soma.outbox",
        "DELETE FROM soma.outbox",
        "UPDATE soma.subjects SET subject = NULL",
        "UPDATE soma.outbox SET payload = '{}'",
        "DROP TABLE turns",
        "CREATE TABLE mine (x int)",
    ],
)
async def test_a_tenant_reaches_nothing_of_another_whatever_the_statement(house: House, statement: str) -> None:
    async with database(house) as db:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.upkeep(ADA) as tx:
                await tx.execute(statement)


async def test_a_row_of_another_tenant_is_not_seen_in_shared_tables(house: House) -> None:
    async with database(house) as db:
        async with db.upkeep(GUS) as tx:
            await tx.execute("INSERT INTO soma.leases VALUES ('globex', 'r1', 'h', now() + interval '1 hour')")
        async with db.upkeep(ADA) as tx:
            assert await tx.fetchval("SELECT count(*) FROM soma.leases WHERE resource = 'r1'") == 0
            await tx.execute("DELETE FROM soma.leases WHERE resource = 'r1'")
        async with db.upkeep(GUS) as tx:
            assert await tx.fetchval("DELETE FROM soma.leases WHERE resource = 'r1' RETURNING true")


async def test_outside_a_tenant_a_room_reads_no_tenant(house: House) -> None:
    async with database(house) as db:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.look("SELECT * FROM t_acme.turns")


async def test_cached_statements_read_the_right_tenant_however_they_take_turns(house: House) -> None:
    async with open_database(*house.store("agent"), SystemClock(), connections=2) as db:
        marks = {caller.tenant: str(uuid.uuid4()) for caller in (ADA, GUS)}
        insert = "INSERT INTO requests (subject, request_id, body_hash) VALUES ('mark', $1, '')"
        for caller in (ADA, GUS):
            async with db.upkeep(caller) as tx:
                await tx.execute("DELETE FROM requests WHERE subject = 'mark'")
                await tx.execute(insert, marks[caller.tenant])
        for caller in (ADA, GUS) * 50:
            async with db.upkeep(caller) as tx:
                seen = await tx.fetchval("SELECT request_id FROM requests WHERE subject = 'mark'")
            assert str(seen) == marks[caller.tenant]


async def test_a_step_that_fails_leaves_neither_state_nor_event_nor_audit_row(house: House) -> None:
    event = turn_asked()
    async with database(house) as db:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the step breaks after it has written
            async with db.tenant(ADA, action="turn.tested") as tx:
                tx.about("turns/x")
                await events.append(tx, event)
                raise ZeroDivisionError

    assert not await house.rows("SELECT 1 FROM soma.told WHERE body->>'conversation' = $1", event.conversation)
    assert not await house.rows("SELECT 1 FROM soma.audited WHERE action = 'turn.tested'")


async def test_a_step_that_hides_a_failed_statement_does_not_pass_for_done(house: House) -> None:
    async with database(house) as db:
        with pytest.raises(RuntimeError, match="nothing was kept"):  # noqa: PT012 - it is at commit that it fails
            async with db.upkeep(ADA) as tx:
                with contextlib.suppress(asyncpg.UndefinedTableError):
                    await tx.execute("SELECT * FROM no_such_table")
        async with db.upkeep(ADA) as tx:
            assert await tx.fetchval("SELECT current_user") == "t_acme"


async def test_a_write_that_does_not_say_what_it_is_about_does_not_commit(house: House) -> None:
    event = turn_asked()
    async with database(house) as db:
        with pytest.raises(RuntimeError, match="about"):
            async with db.tenant(ADA, action="turn.tested") as tx:
                await events.append(tx, event)

    assert not await house.rows("SELECT 1 FROM soma.told WHERE body->>'conversation' = $1", event.conversation)


async def test_a_read_cannot_write(house: House) -> None:
    reading = Call("/x/Read", action="", workload="", traceparent="", person=ADA)
    async with database(house) as db:
        reset = current.set(reading)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with db.tenant(ADA) as tx:
                await tx.execute("DELETE FROM requests")
        current.reset(reset)


async def test_an_unknown_tenant_is_refused_and_the_connection_is_good_for_the_next(house: House) -> None:
    async with database(house) as db:
        for _ in range(5):
            with pytest.raises(Denied, match="initech"):
                async with db.upkeep(Caller("initech", "x", frozenset(), frozenset())):
                    pass
        async with db.upkeep(ADA) as tx:
            assert await tx.fetchval("SELECT current_user") == "t_acme"


async def test_after_a_transaction_the_connection_is_nobody(house: House) -> None:
    async with database(house) as db:
        async with db.upkeep(ADA):
            pass
        assert {row["who"] for row in await db.look("SELECT current_user AS who")} == {"soma_agent"}


async def test_a_database_that_is_away_is_said_in_words(house: House) -> None:
    pool = asyncpg.create_pool(f"postgresql://x:y@127.0.0.1:{free_port()}/soma", min_size=0, timeout=1)
    with pytest.raises(Unavailable) as away:
        async with pool, Database(pool, SystemClock(), NO_KEYS).upkeep(ADA):
            pass
    assert away.value.reason == "STORE_UNAVAILABLE"


async def test_the_first_answer_is_kept_for_the_same_request_and_refused_to_another(house: House) -> None:
    id, request = str(uuid.uuid4()), ChatRequest(text="x")
    async with database(house) as db:
        async with db.upkeep(ADA) as tx, once(tx, id, request, Accepted) as answer:
            assert answer.known is None
            answer.keep(Accepted(turn="t1"))
        async with db.upkeep(ADA) as tx, once(tx, id, request, Accepted) as answer:
            assert answer.known == Accepted(turn="t1")
        with pytest.raises(Exists):
            async with db.upkeep(ADA) as tx, once(tx, id, ChatRequest(text="y"), Accepted):
                pass
        async with db.upkeep(GUS) as tx, once(tx, id, request, Accepted) as answer:
            assert answer.known is None, "another tenant's id is another id"
            answer.keep(Accepted(turn="t2"))


async def test_a_request_that_failed_may_be_made_again(house: House) -> None:
    id, request = str(uuid.uuid4()), ChatRequest(text="x")
    async with database(house) as db:
        with pytest.raises(ZeroDivisionError):
            async with db.upkeep(ADA) as tx, once(tx, id, request, Accepted):
                raise ZeroDivisionError
        async with db.upkeep(ADA) as tx, once(tx, id, request, Accepted) as answer:
            assert answer.known is None
            answer.keep(Accepted(turn="t"))


async def test_an_id_is_free_again_after_a_day(house: House) -> None:
    id = str(uuid.uuid4())
    async with database(house) as db:
        async with db.upkeep(ADA) as tx, once(tx, id, ChatRequest(text="x"), Accepted) as answer:
            answer.keep(Accepted(turn="t"))
        async with db.upkeep(ADA) as tx:
            await tx.execute("UPDATE requests SET create_time = now() - interval '25 hours' WHERE request_id = $1", id)
        async with db.upkeep(ADA) as tx, once(tx, id, ChatRequest(text="y"), Accepted) as answer:
            assert answer.known is None
            answer.keep(Accepted(turn="u"))


class Standby:
    """A connection to a Postgres that is still in recovery."""

    async def execute(self, _statement: str) -> None:
        raise asyncpg.ReadOnlySQLTransactionError("cannot execute NOTIFY during recovery")

    def terminate(self) -> None:
        pass


async def test_a_ring_that_postgres_refused_rings_on_the_next_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    standbys, ours = [Standby()], set[int]()

    async def connect(url: str) -> Any:
        if standbys:
            return standbys.pop()
        conn = await connect_once(url)
        ours.add(conn.get_server_pid())
        return conn

    monkeypatch.setattr(bell, "connect_once", connect)
    heard = asyncio.Queue[int]()
    witness = await asyncpg.connect(house.admin_url)
    try:
        await witness.add_listener(bell.RUNG, lambda _conn, pid, *_told: heard.put_nowait(pid))
        async with database(house) as db, asyncio.timeout(20):
            db.bell.ring()
            while await heard.get() not in ours:
                pass
    finally:
        await witness.close()


async def test_ears_that_postgres_refused_hear_on_the_next_connection(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen_on, faults = ears.listen_on, [asyncpg.ReadOnlySQLTransactionError("cannot execute LISTEN during recovery")]

    async def listen(conn: Any, channels: Sequence[str], open_ears: ears.Ears) -> None:
        if faults:
            raise faults.pop()
        await listen_on(conn, channels, open_ears)

    monkeypatch.setattr(ears, "listen_on", listen)
    async with database(house) as db, ears.open_ears(db, "laws") as some:
        with some.ear("laws", "word") as ear:
            await rung(ear)
            await house.rows("NOTIFY laws, 'word'")
            await rung(ear)


async def test_ears_whose_connection_died_without_a_word_hear_on_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ears, "ASK_S", 0.1)
    monkeypatch.setattr(ears, "ACQUIRE_S", 1.0)
    url, _ = house.store("agent")
    server = url.rpartition("@")[2].partition("/")[0]
    async with (
        open_wire(server) as wire,
        asyncpg.create_pool(url.replace(server, wire.address), min_size=1, max_size=2, command_timeout=5) as pool,
        ears.open_ears(Database(pool, SystemClock(), NO_KEYS), "laws") as some,
    ):
        with some.ear("laws", "word") as ear:
            await rung(ear)
            wire.deafen()
            await rung(ear)
            await house.rows("NOTIFY laws, 'word'")
            await rung(ear)


async def rung(ear: ears.Ear) -> None:
    async with asyncio.timeout(20):
        await ear.wait(60)
    ear.forget()
