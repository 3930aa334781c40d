"""A decision made again from its record, over a real socket: the same bit for bit, and nobody else's."""

from __future__ import annotations

from uuid import uuid4

import pytest
from google.protobuf.message import Message as Proto
from grpc import StatusCode

from services.common.testing import refused
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.policy_pb2 import Policy
from soma.router.v1.policy_service_pb2 import CreatePolicyRequest
from soma.router.v1.router_service_pb2 import GenerateRequest, ReplayDecisionRequest, ReplayDecisionResponse
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import Message
from tests.governing import SOON_S, new_admin, within
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def decided(person: Person, text: str = "script:words=1", tier: str = "premium") -> list[Decision]:
    """What was told while a question was answered: a decision, and one more for each that took over."""
    stub = RouterServiceStub(person.house.channel("router", "agent"))
    request = GenerateRequest(messages=[Message(role="user", text=text)], tier=tier)
    events = [event async for event in stub.Generate(request, metadata=person.metadata, timeout=30)]
    assert events[-1].outcome.finish_reason == "stop"
    return [event.decision for event in events if event.HasField("decision")]


async def replayed(person: Person, name: str) -> ReplayDecisionResponse:
    request = ReplayDecisionRequest(name=name)
    answer: ReplayDecisionResponse = await person.router.ReplayDecision(request, metadata=person.metadata, timeout=10)
    return answer


def bits(message: Proto) -> bytes:
    return message.SerializeToString(deterministic=True)


async def is_the_same(person: Person, decision: Decision) -> bool:
    answer = await replayed(person, f"decisions/{decision.id}")
    assert bits(answer.recorded) == bits(decision)
    return answer.same and bits(answer.replayed) == bits(decision)


@pytest.mark.parametrize("tier", ["premium", "slm", "auto"])
async def test_a_decision_is_made_again_bit_for_bit(house: House, tier: str) -> None:
    person = house.person((await new_admin(house, "replay")).tenant, "ann")
    (decision,) = await decided(person, tier=tier)
    assert await is_the_same(person, decision)


async def test_so_is_one_that_another_model_took_over(house: House) -> None:
    person = house.person((await new_admin(house, "replay")).tenant, "ann")
    first, last = await decided(person, "script:fail=premium script:words=1")
    assert first.id == last.id
    assert last.model != first.model
    assert "tried" in {candidate.filter for candidate in last.candidates}
    assert await is_the_same(person, last)


async def test_so_is_one_that_chance_made(house: House) -> None:
    admin = await new_admin(house, "replay")
    request = CreatePolicyRequest(policy=Policy(most_explored=0.5, denied_models=["local/*"]), activate=True)
    await admin.policies.CreatePolicy(request, metadata=admin.metadata, timeout=10)
    person = house.person(admin.tenant, "ann")

    async def is_explored() -> bool:
        (decision,) = await decided(person, tier="auto")
        assert await is_the_same(person, decision)
        return decision.propensity < 1

    await within(10 * SOON_S, is_explored)


async def test_another_persons_another_tenants_and_none_are_not_found(house: House) -> None:
    admin = await new_admin(house, "replay")
    (decision,) = await decided(house.person(admin.tenant, "ann"))
    stranger = house.person((await new_admin(house, "replay")).tenant, "ann")
    for by in (house.person(admin.tenant, "bob"), admin, stranger):
        with refused(StatusCode.NOT_FOUND, "DECISION_UNKNOWN"):
            await replayed(by, f"decisions/{decision.id}")
    for name in (f"decisions/{uuid4()}", "decisions/x", "x"):
        with refused(StatusCode.NOT_FOUND, "DECISION_UNKNOWN"):
            await replayed(admin, name)
