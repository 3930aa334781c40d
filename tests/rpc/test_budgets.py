"""Budgets over a real socket: what is asked of a new one, and what a change may leave out."""

from __future__ import annotations

from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from services.common.testing import refused
from soma.router.v1.budget_pb2 import Budget, Limit
from soma.router.v1.budget_service_pb2 import CreateBudgetRequest, UpdateBudgetRequest
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def admin(house: House) -> Person:
    return house.person("acme", "admin", ("admin",))


async def made(admin: Person, **fields: object) -> Budget:
    wanted = {"scope": "task", "of": str(uuid4()), "window": "total", "limit": Limit(requests=3)} | fields
    request = CreateBudgetRequest(budget=Budget(**wanted))  # type: ignore[arg-type]
    budget: Budget = await admin.budgets.CreateBudget(request, metadata=admin.metadata, timeout=10)
    return budget


async def test_a_change_names_only_what_it_changes(admin: Person) -> None:
    before = await made(admin)
    change = UpdateBudgetRequest(
        budget=Budget(name=before.name, limit=Limit(requests=7)), update_mask=FieldMask(paths=["limit"])
    )
    after = await admin.budgets.UpdateBudget(change, metadata=admin.metadata, timeout=10)
    assert (after.limit.requests, after.scope, after.window) == (7, before.scope, before.window)
    assert after.etag != before.etag


@pytest.mark.parametrize("missing", ["scope", "window"])
async def test_a_new_budget_says_whose_calls_count_and_for_how_long(admin: Person, missing: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, reason="REQUEST_INVALID"):
        await made(admin, **{missing: ""})


async def test_a_new_budget_bounds_something(admin: Person) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, reason="REQUEST_INVALID"):
        await made(admin, limit=Limit())
