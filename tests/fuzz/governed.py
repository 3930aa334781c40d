"""What a tenant has that is governed: budgets, keys, versions of a policy, and something spent."""

from __future__ import annotations

from google.protobuf.message import Message

from soma.router.v1 import budget_service_pb2 as budget_wire
from soma.router.v1 import key_service_pb2 as key_wire
from soma.router.v1 import policy_service_pb2 as policy_wire
from soma.router.v1 import provider_service_pb2 as provider_wire
from soma.router.v1.budget_pb2 import Budget, Limit
from soma.router.v1.key_pb2 import Key
from soma.router.v1.policy_pb2 import Policy
from tests.asking import ask
from tests.fuzz.world import World
from tests.house import Person

EACH = 6


async def furnish_governed(admin: Person) -> World:
    """Nobody has governed here before: the tenant's members are answered."""
    world = World()
    await ask(admin.house.person(admin.tenant, "member"), "hello")
    for n in range(EACH):
        for answer in await made(admin, n):
            world.learn(answer)
    for answer in await listed(admin):
        world.learn(answer)
    return world


async def made(admin: Person, n: int) -> list[Message]:
    """A budget that was changed once, a key, a version that holds."""
    token = admin.metadata
    wanted = Budget(scope="user", of=f"somebody {n}", window="day", limit=Limit(requests=n))
    budget = await admin.budgets.CreateBudget(
        budget_wire.CreateBudgetRequest(budget=wanted), metadata=token, timeout=10
    )
    change = budget_wire.UpdateBudgetRequest(budget=budget)
    change.update_mask.paths.append("limit")
    version = policy_wire.CreatePolicyRequest(policy=Policy(note=f"number {n}"), activate=True)
    return [
        budget,
        await admin.budgets.UpdateBudget(change, metadata=token, timeout=10),
        await admin.keys.CreateKey(key_wire.CreateKeyRequest(key=Key(person="member")), metadata=token, timeout=10),
        await admin.policies.CreatePolicy(version, metadata=token, timeout=10),
    ]


async def listed(admin: Person) -> list[Message]:
    """First pages, with their tokens."""
    token = admin.metadata
    return [
        await admin.budgets.ListBudgets(budget_wire.ListBudgetsRequest(page_size=1), metadata=token, timeout=10),
        await admin.keys.ListKeys(key_wire.ListKeysRequest(page_size=1), metadata=token, timeout=10),
        await admin.policies.ListPolicies(policy_wire.ListPoliciesRequest(page_size=1), metadata=token, timeout=10),
        await admin.providers.ListProviders(provider_wire.ListProvidersRequest(), metadata=token, timeout=10),
    ]
