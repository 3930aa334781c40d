"""Versions of a tenant's policy: made, activated, rolled back, and held by every router within a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from grpc import StatusCode

from services.common.caller import Caller
from services.common.errors import Denied, Unavailable
from services.common.learning.posterior import Posterior, posterior_of
from services.common.learning.prior import shipped
from services.common.testing import refused
from services.local.ports import free_port
from soma.router.v1.policy_pb2 import ModelPrice, ModelRule, Policy
from soma.router.v1.policy_service_pb2 import (
    ActivatePolicyRequest,
    CreatePolicyRequest,
    GetPolicyRequest,
    ListPoliciesRequest,
    RollBackPolicyRequest,
)
from soma.router.v1.router_service_pb2 import DecideRequest
from tests.governing import SOON_S, new_admin, policies, within
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEAR = 10**12 + 1
WHERE = "policy.models.price.input"


class Governor:
    """An administrator, in few words."""

    def __init__(self, person: Person) -> None:
        self.person, self.stub = person, person.policies
        self.caller = Caller(person.tenant, "x", frozenset(), frozenset())

    async def create(self, policy: Policy | None = None, *, activate: bool = False, request_id: str = "") -> Policy:
        request = CreatePolicyRequest(policy=policy or Policy(), activate=activate, request_id=request_id or None)
        return await self._ask(self.stub.CreatePolicy, request)

    async def get(self, name: str = "policies/active") -> Policy:
        return await self._ask(self.stub.GetPolicy, GetPolicyRequest(name=name))

    async def activate(self, name: str, request_id: str = "") -> Policy:
        return await self._ask(
            self.stub.ActivatePolicy, ActivatePolicyRequest(name=name, request_id=request_id or None)
        )

    async def roll_back(self, request_id: str = "") -> Policy:
        return await self._ask(self.stub.RollBackPolicy, RollBackPolicyRequest(request_id=request_id or None))

    async def page(self, size: int = 0, token: str = "") -> Any:
        request = ListPoliciesRequest(page_size=size, page_token=token)
        return await self.stub.ListPolicies(request, metadata=self.person.metadata, timeout=10)

    async def _ask(self, method: Any, request: Any) -> Policy:
        answer: Policy = await method(request, metadata=self.person.metadata, timeout=10)
        return answer

    async def audited(self) -> list[tuple[str, str]]:
        rows = await self.person.house.rows(
            "SELECT action, body->>'resource' AS about FROM soma.audited WHERE body->>'tenant' = $1",
            self.person.tenant,
        )
        return [(row["action"], row["about"] or "") for row in rows]


@pytest_asyncio.fixture(loop_scope="session")
async def admin(house: House) -> Governor:
    return Governor(await new_admin(house))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second(house: House) -> AsyncIterator[str]:
    """A second router."""
    await house.start("router2")
    yield "router2"
    await house.end("router2")


async def test_versions_count_from_one_and_say_who_made_them_and_when(admin: Governor) -> None:
    first, second = await admin.create(Policy(dial=0.9, note="Better.")), await admin.create()
    assert (first.name, second.name, first.active) == ("policies/1", "policies/2", False)
    assert (first.dial, first.note, first.author) == (0.9, "Better.", "admin@" + admin.person.tenant)
    assert first.create_time.seconds > 0
    assert await admin.get("policies/1") == first


async def test_the_built_in_version_holds_until_another_is_activated(admin: Governor) -> None:
    built_in = await admin.get()
    assert (built_in.name, built_in.active, built_in.dial) == ("policies/0", True, 0.5)
    assert not built_in.HasField("most_explored")
    await admin.create(Policy(dial=1))
    assert (await admin.get()).name == "policies/0"
    assert (await admin.create(Policy(dial=0), activate=True)).active
    assert (await admin.get()).name == "policies/2"
    assert not (await admin.get("policies/0")).active


async def test_the_list_is_newest_first_with_the_built_in_last_in_pages_of_any_size(admin: Governor) -> None:
    for _ in range(4):
        await admin.create()
    await admin.activate("policies/3")
    for size in (1, 2, 3, 5, 100):
        found, token = [], ""
        while page := await admin.page(size, token):
            assert len(page.policies) <= size
            found += page.policies
            if not (token := page.next_page_token):
                break
        assert [policy.name for policy in found] == [f"policies/{n}" for n in (4, 3, 2, 1, 0)]
        assert [policy.name for policy in found if policy.active] == ["policies/3"]


async def test_a_roll_back_goes_to_what_held_before_and_the_next_one_further_back(admin: Governor) -> None:
    for _ in range(3):
        await admin.create(activate=True)
    await admin.activate("policies/1")
    assert [(await admin.roll_back()).name for _ in range(4)] == [f"policies/{n}" for n in (3, 2, 1, 0)]
    with refused(StatusCode.FAILED_PRECONDITION, "POLICY_INVALID"):
        await admin.roll_back()
    assert (await admin.get()).name == "policies/0"


async def test_to_activate_what_holds_already_leaves_nothing_to_roll_back_to_twice(admin: Governor) -> None:
    await admin.create(activate=True)
    await admin.activate("policies/1")
    assert (await admin.roll_back()).name == "policies/0"


@pytest.mark.parametrize("name", ["policies/9", "policies/x", "policies/-1", "x", "policies/99999999999999999999"])
async def test_a_version_that_was_never_made_is_unknown(admin: Governor, name: str) -> None:
    with refused(StatusCode.NOT_FOUND, "POLICY_UNKNOWN"):
        await admin.get(name)
    with refused(StatusCode.NOT_FOUND, "POLICY_UNKNOWN"):
        await admin.activate(name)


async def test_a_policy_that_cannot_be_is_refused_with_its_field_and_leaves_no_version(admin: Governor) -> None:
    for policy, reason, field in (
        (Policy(allowed_models=["nobody/*"]), "POLICY_INVALID", "policy.allowed_models"),
        (Policy(learned="ab" * 32), "POLICY_INVALID", "policy.learned"),
        (Policy(dial=2), "REQUEST_INVALID", "policy.dial"),
        (Policy(unknown_price=ModelPrice(input=1, output=DEAR)), "REQUEST_INVALID", "policy.unknown_price.output"),
        (Policy(models=[ModelRule(model="scripted/*", price=ModelPrice(input=DEAR))]), "REQUEST_INVALID", WHERE),
        (Policy(max_cost_microusd=10**15 + 1), "REQUEST_INVALID", "policy.max_cost_microusd"),
        (Policy(note="a\0b"), "REQUEST_INVALID", None),
    ):
        with refused(StatusCode.INVALID_ARGUMENT, reason) as held:
            await admin.create(policy, activate=True)
        assert held[0].metadata.get("field") == field
    assert [policy.name for policy in (await admin.page()).policies] == ["policies/0"]


async def test_a_repeat_changes_nothing_and_gets_the_same_version(admin: Governor) -> None:
    once, back = str(uuid4()), str(uuid4())
    assert await admin.create(activate=True, request_id=once) == await admin.create(activate=True, request_id=once)
    await admin.create(activate=True)
    assert (await admin.roll_back(back)).name == (await admin.roll_back(back)).name == "policies/1"
    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        await admin.create(Policy(dial=1), request_id=once)


async def test_versions_made_at_the_same_moment_all_get_numbers_of_their_own(admin: Governor) -> None:
    made = await asyncio.gather(*(admin.create(Policy(note=str(n)), activate=True) for n in range(12)))
    assert sorted(int(policy.name.partition("/")[2]) for policy in made) == list(range(1, 13))
    names = {policy.note: policy.name for policy in made}
    listed = (await admin.page()).policies
    assert {policy.note: policy.name for policy in listed[:-1]} == names
    assert sum(policy.active for policy in listed) == 1


async def test_each_change_is_audited_and_a_refused_one_too(admin: Governor) -> None:
    await admin.create(activate=True)
    await admin.activate("policies/0")
    await admin.roll_back()
    with refused(StatusCode.NOT_FOUND, "POLICY_UNKNOWN"):
        await admin.activate("policies/7")
    assert sorted(await admin.audited()) == [
        ("policy.activated", ""), ("policy.activated", "policies/0"), ("policy.activated", "policies/1"),
        ("policy.created", "policies/1"), ("policy.rolled_back", "policies/1"),
    ]  # fmt: skip


async def test_a_tenant_neither_sees_nor_activates_what_another_made(house: House, admin: Governor) -> None:
    await admin.create(activate=True)
    other = Governor(await new_admin(house))
    with refused(StatusCode.NOT_FOUND, "POLICY_UNKNOWN"):
        await other.activate("policies/1")
    assert (await other.get()).name == "policies/0"


async def test_a_change_holds_in_every_router_within_a_second(house: House, admin: Governor, second: str) -> None:
    tenant = admin.person.tenant

    async def held(router: str) -> str:
        person = house.person(tenant, router=router)
        request = DecideRequest(text="Hello")
        return str((await person.router.Decide(request, metadata=person.metadata, timeout=10)).policy)

    async def everywhere(name: str) -> bool:
        return [await held(router) for router in ("router", second)] == [name, name]

    assert await everywhere("policies/0")
    for _ in range(3):
        name = (await admin.create(activate=True)).name
        await within(SOON_S, lambda name=name: everywhere(name))  # type: ignore[misc]
    await admin.roll_back()
    await within(SOON_S, lambda: everywhere("policies/2"))


@pytest.mark.parametrize("valkey", ["there", "away"])
async def test_what_a_router_holds_changes_within_a_second_with_valkey_or_without(
    house: House, admin: Governor, valkey: str
) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with policies(house, "" if valkey == "there" else nowhere) as (held, _):
        before = await held.rules(admin.caller)
        assert before.name == "policies/0"
        await admin.create(Policy(denied_models=["openai/*"]), activate=True)

        async def has_changed() -> bool:
            return (await held.rules(admin.caller)).name == "policies/1"

        await within(SOON_S, has_changed)
        assert (await held.rules(admin.caller)).policy.denied_models == ["openai/*"]
        assert await held.rules(admin.caller) is await held.rules(admin.caller)


async def test_a_tenant_that_is_not_served_has_no_rules(house: House) -> None:
    async with policies(house) as (held, _):
        with pytest.raises(Denied):
            await held.rules(Caller("initech", "x", frozenset(), frozenset()))


async def test_a_corrupt_version_is_refused_the_old_one_stays_and_there_is_an_alarm(
    house: House, admin: Governor
) -> None:
    await admin.create(Policy(dial=0.1), activate=True)
    await admin.create(Policy(dial=0.2))
    await spoil(house, admin.person.tenant, 2)
    with refused(StatusCode.FAILED_PRECONDITION, "POLICY_INVALID"):
        await admin.activate("policies/2")

    async with policies(house) as (held, registry):

        def alarm() -> float | None:
            return registry.get_sample_value("soma_policy_refused", {"tenant": admin.person.tenant})

        async def is_alarmed() -> bool:
            return alarm() == 1

        async def is_well() -> bool:
            return alarm() == 0 and (await held.rules(admin.caller)).name == "policies/3"

        old = await held.rules(admin.caller)
        assert old.name == "policies/1"
        await let_hold(house, admin.person.tenant, 2)
        await within(SOON_S, is_alarmed)
        assert await held.rules(admin.caller) is old
        assert [p.note for p in (await admin.page()).policies][:1] == ["This version is corrupt and is not used."]
        await admin.create(Policy(dial=0.3), activate=True)
        await within(SOON_S, is_well)
    assert (await admin.roll_back()).name == "policies/1"


async def test_a_corrupt_version_opens_nothing_where_none_is_held_until_it_is_rolled_back(
    house: House, admin: Governor
) -> None:
    await admin.create()
    await admin.create(Policy(denied_models=["openai/*"]))
    await spoil(house, admin.person.tenant, 2)
    for version in (1, 2):
        await let_hold(house, admin.person.tenant, version)
    async with policies(house) as (restarted, registry):
        for _ in range(2):
            with pytest.raises(Unavailable, match="policy is corrupt") as refusal:
                await restarted.rules(admin.caller)
            assert refusal.value.reason == "STORE_UNAVAILABLE"
        assert registry.get_sample_value("soma_policy_refused", {"tenant": admin.person.tenant}) == 1
        with refused(StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
            await decided(house, admin)
        assert (await admin.roll_back()).name == "policies/1"

        async def is_open() -> bool:
            try:
                return (await restarted.rules(admin.caller)).name == "policies/1"
            except Unavailable:
                return False

        await within(SOON_S, is_open)
        assert registry.get_sample_value("soma_policy_refused", {"tenant": admin.person.tenant}) == 0
    assert await decided(house, admin) == "policies/1"


async def test_a_version_whose_learned_part_cannot_be_read_still_forbids_what_it_forbade_and_there_is_an_alarm(
    house: House, admin: Governor
) -> None:
    tenant = admin.person.tenant
    await admin.create(activate=True)
    digest = await learned_of_another_prior(house, tenant)
    made = Policy(denied_models=["openai/*"], learned=digest)
    without_it = ("policies/2", ["openai/*"], None)
    async with policies(house) as (held, registry):
        assert (await held.rules(admin.caller)).name == "policies/1"
        await admin.create(made, activate=True)

        async def holds() -> bool:
            return (await held.rules(admin.caller)).name == "policies/2"

        await within(SOON_S, holds)
        async with policies(house) as (restarted, _):
            for one in (held, restarted):
                rules = await one.rules(admin.caller)
                assert (rules.name, list(rules.policy.denied_models), rules.learned) == without_it
        assert registry.get_sample_value("soma_policy_refused", {"tenant": tenant}) == 1
    assert await decided(house, admin) == "policies/2"
    await admin.create(activate=True)
    assert (await admin.roll_back()).name == "policies/2"


async def test_a_change_that_commits_after_a_later_one_is_not_missed(house: House, admin: Governor) -> None:
    other = Governor(await new_admin(house))
    for one in (admin, other):
        await one.create(activate=True)
        await one.create(Policy(models=[ModelRule(model="scripted/*", quality=0.1)]))
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    late = await asyncpg.connect(house.admin_url)
    try:
        async with policies(house, nowhere) as (held, _):

            async def holds(one: Governor) -> bool:
                return (await held.rules(one.caller)).name == "policies/2"

            assert not await holds(admin)
            assert not await holds(other)
            async with late.transaction():
                await late.execute(LET_HOLD, admin.person.tenant, 2)
                await other.activate("policies/2")
                await within(SOON_S, lambda: holds(other))
                assert not await holds(admin)
            await within(SOON_S, lambda: holds(admin))
    finally:
        await late.close()


async def test_rooms_that_do_not_govern_cannot_change_a_policy(house: House, admin: Governor) -> None:
    await admin.create(activate=True)
    tenant = admin.person.tenant
    for room, answer in (("agent", "UPDATE 0"), ("router", "UPDATE 1")):
        conn = await asyncpg.connect(house.store(room)[0])
        try:
            await conn.execute(f"SET ROLE t_{tenant}")
            assert await conn.execute("UPDATE soma.active_policies SET change = change + 1") == answer
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute("UPDATE soma.policies SET note = ''")
        finally:
            await conn.close()


LET_HOLD = """
UPDATE soma.active_policies SET version = $2, before = before || version, change = change + 1,
    written = pg_current_xact_id() WHERE tenant = $1
"""


async def decided(house: House, admin: Governor) -> str:
    """The policy by which the tenant's calls go now."""
    person = house.person(admin.person.tenant)
    request = DecideRequest(text="Hello")
    return str((await person.router.Decide(request, metadata=person.metadata, timeout=10)).policy)


async def learned_of_another_prior(house: House, tenant: str) -> str:
    """What was learned before the shipped prior changed; its digest."""
    prior = shipped()
    other = replace(prior, known=dict([*prior.known.items()][:1]))
    learned = Posterior(other, {}).to_bytes()
    with pytest.raises(ValueError, match="does not fit the prior"):
        posterior_of(learned, prior)
    digest = sha256(learned)
    columns = "tenant, digest, body"
    await house.rows(f"INSERT INTO soma.learned ({columns}) VALUES ($1, $2, $3)", tenant, digest.digest(), learned)
    return digest.hexdigest()


async def let_hold(house: House, tenant: str, version: int) -> None:
    """As one does who asks nobody."""
    await house.rows(LET_HOLD, tenant, version)


async def spoil(house: House, tenant: str, version: int) -> None:
    await house.rows(
        "UPDATE soma.policies SET body = body || '\\x0102' WHERE tenant = $1 AND version = $2", tenant, version
    )
