"""API keys: shown once, kept as a hash, taken where they are good, dead within a second when they are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from services.common.access import rule_of
from services.common.api_keys import hash_of, new_secret
from services.common.caller import Caller
from services.common.db import Database
from services.common.errors import Unauthenticated
from services.common.interceptors import Guard
from services.common.testing import refused
from services.router.keys.ring import Known, Ring
from soma.router.v1 import completions_service_pb2
from soma.router.v1.key_pb2 import Key
from soma.router.v1.key_service_pb2 import CreateKeyRequest, GetKeyRequest, ListKeysRequest, RevokeKeyRequest
from soma.router.v1.policy_service_pb2 import ListPoliciesRequest
from tests.governing import SOON_S, database, new_admin, within
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Issuer:
    """An administrator, in few words."""

    def __init__(self, person: Person) -> None:
        self.person, self.stub = person, person.keys

    async def create(self, request_id: str = "", **fields: Any) -> Key:
        key = Key(**({"person": "ann"} | fields))
        return await self._ask(self.stub.CreateKey, CreateKeyRequest(key=key, request_id=request_id or None))

    async def get(self, name: str) -> Key:
        return await self._ask(self.stub.GetKey, GetKeyRequest(name=name))

    async def revoke(self, name: str) -> Key:
        return await self._ask(self.stub.RevokeKey, RevokeKeyRequest(name=name))

    async def _ask(self, method: Any, request: Any) -> Key:
        answer: Key = await method(request, metadata=self.person.metadata, timeout=10)
        return answer


@pytest_asyncio.fixture(loop_scope="session")
async def admin(house: House) -> Issuer:
    return Issuer(await new_admin(house))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def db(house: House) -> AsyncIterator[Database]:
    async with database(house) as db:
        yield db


async def refusal(ring: Ring, secret: str) -> str:
    """Why the ring refuses; empty when it does not."""
    try:
        await ring.caller(secret)
    except Unauthenticated as refused:
        assert refused.reason == "TOKEN_REFUSED"
        return refused.message
    return ""


async def test_the_secret_is_shown_once_and_nothing_that_is_kept_has_it(house: House, admin: Issuer) -> None:
    once = str(uuid4())
    made = await admin.create(once, title="CI")
    assert made.secret.startswith(made.hint.rstrip("…"))
    for again in (await admin.create(once, title="CI"), await admin.get(made.name)):
        shown = Key()
        shown.CopyFrom(made)
        shown.secret = ""
        assert again == shown
    random = made.secret.removeprefix("sk-soma-")[8:]
    assert await house.rows("SELECT 1 FROM soma.keys k WHERE k::text LIKE '%' || $1 || '%'", random) == []
    assert await house.rows("SELECT 1 FROM soma.every e WHERE e::text LIKE '%' || $1 || '%'", random) == []
    kept = await house.rows(f"SELECT answer FROM t_{admin.person.tenant}.requests")
    assert random.encode() not in kept[0]["answer"]


async def test_a_key_stands_for_its_person_with_team_and_models(admin: Issuer, db: Database) -> None:
    made = await admin.create(person="ann@x", team="red", models=["soma/premium", "gpt-4o", "gpt-4o"])
    assert list(made.models) == ["soma/premium", "gpt-4o"]
    assert await Ring(db).caller(made.secret) == Caller(
        admin.person.tenant, "ann@x", frozenset({"member"}), frozenset(), "", "red", made.name,
        frozenset({"soma/premium", "gpt-4o"}),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["gpt-x", "soma/gold", "openai", "openai/*", "scripted/gpt-4o"])
async def test_no_key_is_made_for_what_is_no_model_here(admin: Issuer, name: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID") as held:
        await admin.create(models=["soma/auto", name])
    assert held[0].metadata["field"] == "key.models"
    assert repr(name) in held[0].message


async def test_a_revoked_key_is_dead_within_a_second_and_stays_so(admin: Issuer, db: Database) -> None:
    made, ring = await admin.create(), Ring(db)
    assert await refusal(ring, made.secret) == ""
    revoked = await admin.revoke(made.name)
    assert revoked.revoke_time.seconds > 0

    async def is_dead() -> bool:
        return "was revoked" in await refusal(ring, made.secret)

    await within(SOON_S, is_dead)
    assert (await admin.revoke(made.name)).revoke_time == revoked.revoke_time
    assert "was revoked" in await refusal(Ring(db), made.secret)


async def test_an_expired_key_is_refused_and_none_is_made_that_has_ended(admin: Issuer, db: Database) -> None:
    made = await admin.create(expire_time=soon())
    assert await refusal(Ring(db), made.secret) == ""
    await admin.person.house.rows(
        "UPDATE soma.keys SET expire_time = now() WHERE id = $1", UUID(made.name.partition("/")[2])
    )
    assert "has expired" in await refusal(Ring(db), made.secret)
    for ended in (Timestamp(seconds=1), Timestamp(seconds=-(10**15)), Timestamp(seconds=10**15)):
        with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
            await admin.create(expire_time=ended)


class Counted(Ring):
    """Counts its questions to Postgres."""

    asked = 0

    async def _ask(self, hash: bytes) -> Known | None:
        self.asked += 1
        return await super()._ask(hash)


async def test_what_nobody_made_is_refused_and_costs_postgres_one_question(db: Database) -> None:
    ring, guess = Counted(db, monotonic=lambda: 0.0), new_secret()
    said = {*await asyncio.gather(*(refusal(ring, guess) for _ in range(50))), await refusal(ring, guess)}
    assert said == {"This API key is not known here. Ask an admin of your tenant for another."}
    assert ring.asked == 1
    for rubbish in ("sk-soma-", f"{guess}x", guess[:-1] + ("A" if guess[-1] != "A" else "B"), "sk-soma-" + "é" * 49):
        assert "cut or mistyped" in await refusal(ring, rubbish)
    assert ring.asked == 1


async def test_guesses_take_bounded_memory_and_push_out_no_good_key(admin: Issuer, db: Database) -> None:
    made, ring = await admin.create(), Counted(db, monotonic=lambda: 0.0, remembered=8)
    await ring.caller(made.secret)
    for _ in range(20):
        assert await refusal(ring, new_secret())
    assert len(ring._nobodys) == 8
    asked = ring.asked
    await ring.caller(made.secret)
    assert ring.asked == asked


async def test_only_the_router_can_ask_whose_key_it_is(house: House, admin: Issuer) -> None:
    made = await admin.create()
    for room, sees in (("router", 1), ("agent", 0)):
        conn = await asyncpg.connect(house.store(room)[0])
        try:
            await conn.execute(f"SET ROLE t_{admin.person.tenant}")
            assert await conn.fetchval("SELECT count(*) FROM soma.keys") == sees
            await conn.execute("RESET ROLE")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.fetch("SELECT * FROM soma.keys")
            if not sees:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await conn.fetch("SELECT * FROM soma.key_with($1)", hash_of(made.secret))
        finally:
            await conn.close()


async def test_a_key_opens_no_method_that_does_not_take_keys(house: House, admin: Issuer) -> None:
    made = await admin.create()
    with refused(StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED") as held:
        metadata = (("authorization", f"Bearer {made.secret}"),)
        await admin.person.policies.ListPolicies(ListPoliciesRequest(), metadata=metadata, timeout=10)
    assert held[0].message == "An API key opens the OpenAI paths alone. Sign in, and send your token here."


async def test_a_key_stands_for_a_token_on_each_openai_path_and_nowhere_without_a_ring(
    admin: Issuer, db: Database
) -> None:
    made, nobody = await admin.create(), cast("Any", None)
    service = completions_service_pb2.DESCRIPTOR.services_by_name["CompletionsService"]
    for method in service.methods:
        rule = rule_of(f"/{service.full_name}/{method.name}")
        person = await Guard("soma.local", "soma", nobody, nobody, db, keys=Ring(db))._person(rule, made.secret)
        assert (person.subject, person.key) == ("ann", made.name)
        rule.check_roles(person)
        with pytest.raises(Unauthenticated):
            await Guard("soma.local", "soma", nobody, nobody, db)._person(rule, made.secret)


async def test_a_key_with_a_budget_is_made_with_the_budget_or_not_at_all(house: House, admin: Issuer) -> None:
    made = await admin.create(budget_microusd=2_000_000)
    assert made.budget_microusd == 2_000_000
    [budget] = await house.rows("SELECT * FROM soma.budgets WHERE tenant = $1", admin.person.tenant)
    assert (budget["scope"], budget["whose"], budget["period"]) == ("key", made.name, "total")
    assert (budget["microusd"], budget["tokens"], budget["tier"]) == (2_000_000, None, "")
    await admin.create()
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID") as held:
        await admin.create(budget_microusd=10**15 + 1)
    assert held[0].metadata["field"] == "key.budget_microusd"
    assert len(await house.rows("SELECT 1 FROM soma.budgets WHERE tenant = $1", admin.person.tenant)) == 1


async def test_keys_are_listed_newest_first_revoked_ones_too_and_never_with_a_secret(admin: Issuer) -> None:
    names = [(await admin.create(title=str(n))).name for n in range(5)]
    await admin.revoke(names[2])
    found: list[Key] = []
    token = ""
    while True:
        request = ListKeysRequest(page_size=2, page_token=token)
        page = await admin.stub.ListKeys(request, metadata=admin.person.metadata, timeout=10)
        found += page.keys
        if not (token := page.next_page_token):
            break
    assert [key.name for key in found] == names[::-1]
    assert [key.HasField("revoke_time") for key in found] == [False, False, True, False, False]
    assert not any(key.secret for key in found)


async def test_another_tenants_key_is_not_there(house: House, admin: Issuer) -> None:
    made, other = await admin.create(), Issuer(await new_admin(house))
    for name in (made.name, "keys/x", f"keys/{uuid4()}"):
        for ask in (other.get, other.revoke):
            with refused(StatusCode.NOT_FOUND, "KEY_UNKNOWN"):
                await ask(name)
    assert not (await admin.get(made.name)).HasField("revoke_time")


async def test_a_key_for_a_room_or_for_nobody_is_refused(admin: Issuer) -> None:
    for person in ("", "system:agent", "a\0b"):
        with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"):
            await admin.create(person=person)


async def test_each_change_of_a_key_is_audited(house: House, admin: Issuer) -> None:
    made = await admin.create()
    await admin.revoke(made.name)
    rows = await house.rows(
        "SELECT action, body->>'resource' AS about FROM soma.audited WHERE body->>'tenant' = $1", admin.person.tenant
    )
    assert sorted((row["action"], row["about"]) for row in rows) == [
        ("key.created", made.name), ("key.revoked", made.name),
    ]  # fmt: skip


def soon() -> Timestamp:
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.seconds += 3600
    return moment
