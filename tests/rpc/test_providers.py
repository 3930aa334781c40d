"""Providers as a tenant finds them, turned off and on."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.policy_service_pb2 import CreatePolicyRequest, GetPolicyRequest, RollBackPolicyRequest
from soma.router.v1.provider_pb2 import Provider, Standing
from soma.router.v1.provider_service_pb2 import GetProviderRequest, ListProvidersRequest, UpdateProviderRequest
from tests import asking
from tests.governing import new_admin, within
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPTED = "providers/scripted"


class Keeper:
    """An administrator, in few words."""

    def __init__(self, person: Person) -> None:
        self.person, self.stub = person, person.providers

    async def all(self) -> dict[str, Provider]:
        answer = await self._ask(self.stub.ListProviders, ListProvidersRequest())
        return {provider.name: provider for provider in answer.providers}

    async def get(self, name: str) -> Provider:
        found: Provider = await self._ask(self.stub.GetProvider, GetProviderRequest(name=name))
        return found

    async def turn(
        self, name: str, *, on: bool, mask: tuple[str, ...] = ("enabled",), request_id: str = ""
    ) -> Provider:
        provider, update_mask = Provider(name=name, enabled=on), FieldMask(paths=mask)
        request = UpdateProviderRequest(provider=provider, update_mask=update_mask, request_id=request_id or None)
        found: Provider = await self._ask(self.stub.UpdateProvider, request)
        return found

    async def policy(self) -> Policy:
        found: Policy = await self._ask(self.person.policies.GetPolicy, GetPolicyRequest(name="policies/active"))
        return found

    async def _ask(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self.person.metadata, timeout=10)


@pytest_asyncio.fixture(loop_scope="session")
async def admin(house: House) -> Keeper:
    return Keeper(await new_admin(house))


async def test_all_providers_of_the_catalogue_are_shown_with_why_a_model_is_closed(admin: Keeper) -> None:
    found = await admin.all()
    assert list(found) == sorted(found)
    assert {"providers/openai", SCRIPTED} <= set(found)
    scripted, openai = found[SCRIPTED], found["providers/openai"]
    assert (scripted.kind, scripted.enabled) == ("scripted", True)
    assert {model.tier for model in scripted.models} == {"premium", "standard", "slm"}
    assert not any(model.closed for model in scripted.models)
    assert openai.enabled
    assert all(model.closed for model in openai.models)
    assert await admin.get(SCRIPTED) == scripted


async def test_a_provider_that_is_turned_off_is_closed_by_a_new_policy_and_on_again_by_another(admin: Keeper) -> None:
    off = await admin.turn(SCRIPTED, on=False)
    assert (off.enabled, {model.closed for model in off.models}) == (False, {"The policy denies it."})
    policy = await admin.policy()
    assert (policy.name, list(policy.denied_models)) == ("policies/1", ["scripted/*"])
    assert policy.note == "scripted was turned off."
    on = await admin.turn(SCRIPTED, on=True)
    assert on.enabled
    assert await admin.get(SCRIPTED) == on
    assert (await admin.policy()).name == "policies/2"


async def test_turning_a_provider_keeps_all_else_that_the_policy_says(admin: Keeper) -> None:
    policy = Policy(dial=0.9, allowed_models=["scripted/*", "openai/gpt-4o"], denied_models=["openai/gpt-4o-mini"])
    create = CreatePolicyRequest(policy=policy, activate=True)
    await admin._ask(admin.person.policies.CreatePolicy, create)
    await admin.turn("providers/openai", on=False)
    await admin.turn("providers/groq", on=True)
    now = await admin.policy()
    assert now.dial == 0.9
    assert list(now.allowed_models) == ["scripted/*", "openai/gpt-4o", "groq/*"]
    assert list(now.denied_models) == ["openai/gpt-4o-mini", "openai/*"]
    await admin._ask(admin.person.policies.RollBackPolicy, RollBackPolicyRequest())
    assert not (await admin.get("providers/groq")).enabled


async def test_what_is_so_already_makes_no_version(admin: Keeper) -> None:
    assert (await admin.turn(SCRIPTED, on=True)).enabled
    assert (await admin.policy()).name == "policies/0"


async def test_a_repeat_turns_nothing_twice(admin: Keeper) -> None:
    once = str(uuid4())
    await admin.turn(SCRIPTED, on=False, request_id=once)
    await admin.turn(SCRIPTED, on=True)
    assert (await admin.turn(SCRIPTED, on=False, request_id=once)).enabled
    assert (await admin.policy()).name == "policies/2"


async def test_the_last_provider_stays_on(admin: Keeper) -> None:
    names = list(await admin.all())
    for name in names[:-1]:
        await admin.turn(name, on=False)
    with refused(StatusCode.INVALID_ARGUMENT, "POLICY_INVALID"):
        await admin.turn(names[-1], on=False)
    assert (await admin.get(names[-1])).enabled


async def test_an_unknown_provider_and_another_field_are_refused(admin: Keeper) -> None:
    for ask in (admin.get("providers/x"), admin.get("x"), admin.turn("providers/x", on=False)):
        with refused(StatusCode.NOT_FOUND, "PROVIDER_UNKNOWN"):
            await ask
    for mask in ((), ("kind",), ("enabled", "kind")):
        with refused(StatusCode.INVALID_ARGUMENT, "UPDATE_MASK_INVALID"):
            await admin.turn(SCRIPTED, on=False, mask=mask)
    assert (await admin.policy()).name == "policies/0"


async def test_a_model_shows_how_it_did_in_the_last_five_minutes(house: House, admin: Keeper) -> None:
    async def standings() -> dict[str, Standing]:
        return {model.model: model.standing for model in (await admin.get(SCRIPTED)).models}

    events = await asking.ask(house.person(admin.person.tenant), "hello")
    assert events

    async def is_counted() -> bool:
        return any(one.HasField("total_p50_ms") for one in (await standings()).values())

    await within(5.0, is_counted)
    for one in (one for one in (await standings()).values() if one.HasField("total_p50_ms")):
        assert 0 <= one.error_rate <= 1
        assert 0 < one.first_token_p50_ms <= one.first_token_p95_ms
        assert 0 < one.total_p50_ms <= one.total_p95_ms
    for model in (await admin.get("providers/openai")).models:
        assert not model.standing.HasField("first_token_p50_ms")


async def test_turning_one_is_audited_with_the_policy_that_it_made(house: House, admin: Keeper) -> None:
    await admin.turn(SCRIPTED, on=False)
    rows = await house.rows(
        "SELECT action, body->>'resource' AS about FROM soma.audited WHERE body->>'tenant' = $1", admin.person.tenant
    )
    assert sorted((row["action"], row["about"]) for row in rows) == [
        ("policy.activated", "policies/1"), ("provider.updated", SCRIPTED),
    ]  # fmt: skip
