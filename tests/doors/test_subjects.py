"""People's keys on a real Postgres: one a person, kept with the transaction, opened by whom Postgres lets."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.common import events, schema
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import Database, open_database
from services.common.errors import Unavailable
from services.common.people.forgetting import forget
from services.common.people.sealing import Unreadable
from services.common.people.subjects import Subjects
from services.common.people.wrapping import FileTenantKeys, KeyAway
from soma.events.v1alpha1.message_pb2 import MessageEvent
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOMS = ("agent", "canvas", "console", "router", "workers")
WORKER = Caller.system("workers", "")


@dataclass(frozen=True, slots=True)
class Store:
    admin_url: str
    keys: Path

    def room(self, name: str) -> Any:
        url = f"postgresql://soma_{name}:test@{self.admin_url.rpartition('@')[2]}"
        return open_database(url, f"file://{self.keys}", SystemClock(), connections=4)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        conn = await asyncpg.connect(self.admin_url)
        try:
            yield conn
        finally:
            await conn.close()

    async def payload(self, conversation: str) -> bytes:
        async with self.admin() as conn:
            found = "SELECT payload::text FROM soma.outbox WHERE payload->>'conversation' = $1"
            return str(await conn.fetchval(found, conversation)).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    folder = tmp_path_factory.mktemp("subjects")
    folder.chmod(0o755)
    async with running_postgres(folder / "postgres") as admin_url:
        await schema.migrate(admin_url, ROOMS)
        for room in ROOMS:
            await schema.set_room_password(admin_url, room, "test")
        for tenant in ("acme", "globex"):
            await schema.add_tenant(admin_url, tenant, ROOMS)
        yield Store(admin_url, folder / "keys")


def somebody(tenant: str = "acme") -> Caller:
    return Caller(tenant, f"ada-{uuid.uuid4()}", frozenset({"member"}), frozenset())


async def write(db: Database, caller: Caller, text: str, person: str = "") -> MessageEvent:
    event = MessageEvent(type="turn.asked", conversation=f"conversations/{uuid.uuid4()}")
    async with db.upkeep(caller) as tx:
        await events.append(tx, event, text=text, person=person)
    return event


async def read(store: Store, event: MessageEvent) -> str | None:
    """As a worker that has just been started."""
    async with store.room("workers") as db, db.own(WORKER) as tx:
        return await events.opened(tx, await store.payload(event.conversation))


async def test_what_a_person_wrote_is_opened_by_a_worker(store: Store) -> None:
    async with store.room("agent") as db:
        event = await write(db, somebody(), "a secret")
    assert "secret" not in str(await store.payload(event.conversation))
    assert await read(store, event) == "a secret"


async def test_a_text_that_no_event_holds_is_left_out_and_fails_nothing(store: Store) -> None:
    async with store.room("agent") as db:
        longest = await write(db, somebody(), "é" * (events.LONGEST_TEXT // 2))
        longer = await write(db, somebody(), "é" * (events.LONGEST_TEXT // 2) + "x")
    assert await read(store, longest) == "é" * (events.LONGEST_TEXT // 2)
    assert json.loads(await store.payload(longer.conversation))["leftOut"] is True
    assert await read(store, longer) is None


async def test_what_a_room_ends_for_a_person_is_sealed_with_the_persons_key(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db:
        asked = await write(db, ada, "a question")
        ended = await write(db, Caller.system("agent", "acme"), "half an answer", person=ada.subject)
    assert ended.subject == asked.subject, "so that both stand in one order"
    assert await read(store, ended) == "half an answer"


async def test_nobody_is_no_writer(store: Store) -> None:
    async with store.room("agent") as db:
        with pytest.raises(RuntimeError, match="nobody"):
            await write(db, Caller.system("agent", "acme"), "x")


async def test_a_key_made_in_a_transaction_that_rolls_back_is_not_remembered(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - breaks after it has written
            async with db.tenant(ada, action="turn.tested") as tx:
                lost = await tx.pseudonym()
                assert await tx.pseudonym() == lost
                await tx.seal("x", ada.subject, "p")
                raise ZeroDivisionError
        event = await write(db, ada, "after it")
        assert event.subject != lost
        assert (await write(db, ada, "again")).subject == event.subject
    assert await read(store, event) == "after it"


async def test_rooms_that_meet_a_new_person_at_one_moment_make_one_key(store: Store) -> None:
    async with store.room("agent") as agent, store.room("canvas") as canvas:
        for _ in range(5):
            ada = somebody()
            written = await asyncio.gather(*(write(db, ada, "x") for db in (agent, canvas) * 4))
            assert len({event.subject for event in written}) == 1
            assert [await read(store, event) for event in written[:2]] == ["x", "x"]


async def test_who_waits_for_a_key_that_is_rolled_back_makes_their_own(store: Store) -> None:
    ada, made, let_go = somebody(), asyncio.Event(), asyncio.Event()

    async def first(db: Database) -> None:
        async with db.upkeep(ada) as tx:
            await tx.pseudonym()
            made.set()
            await let_go.wait()
            raise ZeroDivisionError

    async with store.room("agent") as agent, store.room("canvas") as canvas, asyncio.timeout(10):
        breaking = asyncio.create_task(first(agent))
        await made.wait()
        waiting = asyncio.create_task(write(canvas, ada, "mine"))
        async with store.admin() as conn:
            while not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
        let_go.set()
        with pytest.raises(ZeroDivisionError):
            await breaking
        assert await read(store, await waiting) == "mine"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM soma.subjects",
        "SELECT wrapped FROM soma.subjects WHERE subject = 'me'",
        "UPDATE soma.subjects SET subject = 'x'",
        "INSERT INTO soma.subjects (tenant, pseudonym, subject, wrapped) VALUES ('acme', 'p', 's', '')",
        "SELECT soma.key_under('acme', 'p_x')",
        "SELECT soma.key_under('globex', 'p_x')",
    ],
)
@pytest.mark.parametrize("room", ["agent", "canvas"])
async def test_a_room_lists_no_keys_and_finds_none_by_pseudonym(store: Store, room: str, statement: str) -> None:
    async with store.room(room) as db:
        for scope in (db.upkeep(somebody()), db.own(WORKER)):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with scope as tx:
                    await tx.execute(statement)


async def test_another_tenants_person_of_the_same_name_is_somebody_else(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db:
        here, there = await write(db, ada, "here"), await write(db, replace(ada, tenant="globex"), "there")
        async with db.upkeep(replace(ada, tenant="globex")) as tx:
            theirs = await tx.fetchval("SELECT wrapped FROM soma.key_of($1)", ada.subject)
        async with db.upkeep(ada) as tx:
            ours = await tx.fetchval("SELECT wrapped FROM soma.key_of($1)", ada.subject)
    assert here.subject != there.subject
    assert await read(store, here) == "here"
    assert ours != theirs
    with pytest.raises(KeyAway):  # nor would the bytes be of use
        await FileTenantKeys(store.keys).unwrap("acme", theirs)


async def test_the_console_opens_what_its_own_tenant_wrote_alone(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db:
        event = await write(db, ada, "x")
    payload = await store.payload(event.conversation)
    async with store.room("console") as db:
        async with db.tenant(somebody()) as tx:
            assert await events.opened(tx, payload) == "x"
        for caller in (somebody("globex"), replace(somebody("globex"), subject="system:console")):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with db.tenant(caller) as tx:
                    await events.opened(tx, payload)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.own(Caller.system("console", "acme")) as tx:
                await events.opened(tx, payload)


async def test_a_text_that_was_moved_to_another_event_or_tenant_is_not_opened(store: Store) -> None:
    async with store.room("agent") as db:
        event, other = await write(db, ada := somebody(), "x"), await write(db, ada, "y")
    body, further = [json.loads(await store.payload(e.conversation)) for e in (event, other)]
    async with store.room("workers") as db, db.own(WORKER) as tx:
        with pytest.raises(Unreadable):
            await events.opened(tx, json.dumps(body | {"text": further["text"]}).encode())
        assert await events.opened(tx, json.dumps(body | {"tenant": "globex"}).encode()) is None


async def test_a_person_called_like_a_pseudonym_gets_no_others_key(store: Store) -> None:
    async with store.room("workers") as db:
        event = await write(db, somebody(), "x")
        async with db.own(WORKER) as tx:
            assert await events.opened(tx, await store.payload(event.conversation)) == "x"
        assert (await write(db, replace(somebody(), subject=event.subject), "y")).subject != event.subject


async def test_who_is_forgotten_is_unreadable_and_comes_back_as_somebody_else(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db, store.room("agent") as later:
        event = await write(db, ada, "a secret")
        async with store.admin() as conn:
            assert await forget(conn, "acme", ada.subject) == event.subject
            assert await forget(conn, "acme", ada.subject) is None
            [row] = await conn.fetch("SELECT * FROM soma.subjects WHERE pseudonym = $1", event.subject)
            told = await conn.fetch(
                "SELECT type, payload::jsonb AS body FROM soma.outbox WHERE payload->>'resource' = $1",
                f"subjects/{event.subject}",
            )
        assert (row["subject"], row["wrapped"]) == (None, None)
        assert [(t["type"], json.loads(t["body"])["subject"]) for t in told] == [
            ("subject.forgotten", "system:operator")
        ]
        assert await read(store, event) is None
        again = await write(later, ada, "anew")
    assert again.subject != event.subject
    assert await read(store, again) == "anew"


DECIDED = """
INSERT INTO t_{tenant}.decisions (id, subject, turn, requested_tier, provider, model, tier, decision, create_time)
VALUES (gen_random_uuid(), $1, 'conversations/1/turns/1', 'slm', 'p', 'm', 'slm', '', now())
"""
ASKED = "INSERT INTO t_{tenant}.requests (subject, request_id, body_hash) VALUES ($1, gen_random_uuid(), '')"


SPENT = """
WITH b AS (INSERT INTO soma.budgets (tenant, id, scope, whose, period, rolling, tier, microusd)
    VALUES ('{tenant}', gen_random_uuid(), 'user', $1, 'day', false, '', 9) RETURNING id),
a AS (INSERT INTO soma.accounts SELECT '{tenant}', id, $1, 1, 1, 1 FROM b),
s AS (INSERT INTO soma.budget_spend SELECT '{tenant}', id, $1, now(), 1, 1, 1 FROM b)
INSERT INTO soma.ledger (tenant, call_id, kind, time, subject, team, conversation, task, key, provider, model, tier)
VALUES ('{tenant}', gen_random_uuid(), 'hold', now(), $1, '', '', '', '', 'p', 'm', 'slm')
"""
KEYED = """
INSERT INTO soma.keys (id, tenant, hash, person, team, models, title, hint, create_time)
VALUES (gen_random_uuid(), '{tenant}', sha256('{tenant}' || $1::text::bytea), $1, '', '{{}}', '', '', now())
"""
PLACES = {
    "t_{tenant}.decisions": "subject", "t_{tenant}.requests": "subject", "soma.ledger": "subject",
    "soma.budgets": "whose", "soma.accounts": "whose", "soma.budget_spend": "whose", "soma.keys": "person",
}  # fmt: skip


async def test_no_table_of_a_room_but_for_their_own_conversations_names_who_is_forgotten(store: Store) -> None:
    ada, bob = somebody(), somebody()
    async with store.room("agent") as db:
        pseudonym = (await write(db, ada, "x")).subject
    places = [("acme", ada), ("acme", bob), ("globex", ada)]
    async with store.admin() as conn:
        for tenant, who in places:
            for statement in (DECIDED, ASKED, SPENT, KEYED):
                await conn.execute(statement.format(tenant=tenant), who.subject)
        await forget(conn, "acme", ada.subject)

        async def named(place: str, tenant: str, subject: str) -> int:
            of_tenant = "" if "{tenant}" in place else f" AND tenant = '{tenant}'"
            statement = f"SELECT count(*) FROM {place.format(tenant=tenant)} WHERE {PLACES[place]} = $1{of_tenant}"
            found: int = await conn.fetchval(statement, subject)
            return found

        for place in PLACES:
            assert [await named(place, tenant, who.subject) for tenant, who in places] == [0, 1, 1], place
            assert await named(place, "acme", pseudonym) == (0 if "requests" in place else 1), place
        live = "SELECT person FROM soma.keys WHERE tenant = 'acme' AND revoke_time IS NULL"
        assert [row["person"] for row in await conn.fetch(live)] == [bob.subject]


async def test_another_tenants_person_is_not_forgotten_with_them(store: Store) -> None:
    ada = somebody()
    async with store.room("agent") as db:
        await write(db, ada, "x")
        there = await write(db, replace(ada, tenant="globex"), "kept")
    async with store.admin() as conn:
        await forget(conn, "acme", ada.subject)
        assert await forget(conn, "initech", ada.subject) is None
    assert await read(store, there) == "kept"


async def test_what_rooms_and_workers_remember_of_a_key_they_forget_in_time(store: Store) -> None:
    ada, keys = somebody(), FileTenantKeys(store.keys)
    async with store.room("agent") as agent, store.room("workers") as workers:
        room, worker = (replace(db, subjects=Subjects(keys, known_s=0.3)) for db in (agent, workers))
        event = await write(room, ada, "x")
        payload = await store.payload(event.conversation)

        async def opened() -> str | None:
            async with worker.own(WORKER) as tx:
                return await events.opened(tx, payload)

        assert ((await write(room, ada, "y")).subject, await opened()) == (event.subject, "x")
        async with store.admin() as conn:
            await forget(conn, "acme", ada.subject)
        async with asyncio.timeout(5):
            while (await write(room, ada, "z")).subject == event.subject or await opened():
                await asyncio.sleep(0.02)
    assert Subjects(keys)._known_s <= 60


async def test_a_tenant_key_that_is_away_is_the_stores_absence_and_is_told_in_the_log(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    ada, file = somebody(), store.keys / "acme.key"
    async with store.room("agent") as db:
        await write(db, ada, "x")
    kept = file.read_bytes()
    try:
        for spoil in (file.unlink, lambda: file.write_bytes(bytes(32)), lambda: file.write_bytes(b"")):
            spoil()
            async with store.room("agent") as db:
                for caller in (ada, somebody()):
                    if caller is not ada and file.exists() and file.stat().st_size:
                        continue  # a new person of a tenant whose key is another one: nothing shows it yet
                    with pytest.raises(Unavailable) as away:
                        await write(db, caller, "y")
                    assert away.value.reason == "STORE_UNAVAILABLE"
            assert "acme.key" in capfd.readouterr().out
    finally:
        file.write_bytes(kept)
    async with store.room("agent") as db:
        await write(db, ada, "z")


async def test_a_folder_for_keys_that_cannot_be_made_is_the_stores_absence(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with store.admin() as conn:
        await conn.execute("DELETE FROM soma.subjects WHERE tenant = 'globex'")
    async with store.room("agent") as db:
        closed = replace(db, subjects=Subjects(FileTenantKeys(tmp_path / "file")))
        with pytest.raises(Unavailable) as away:
            await write(closed, somebody("globex"), "x")
    assert away.value.reason == "STORE_UNAVAILABLE"
