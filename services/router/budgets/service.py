"""BudgetService over gRPC: takes a request apart, hands it to the budgets."""

from __future__ import annotations

from services.common.call import caller
from services.common.interceptors import Context
from services.router.budgets.deeds import Budgets
from soma.router.v1 import budget_service_pb2 as wire
from soma.router.v1.budget_pb2 import Budget
from soma.router.v1.budget_service_pb2_grpc import BudgetServiceServicer


class BudgetService(BudgetServiceServicer):
    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    async def CreateBudget(self, request: wire.CreateBudgetRequest, context: Context) -> Budget:
        return await self._budgets.create(caller(), request)

    async def GetBudget(self, request: wire.GetBudgetRequest, context: Context) -> Budget:
        return await self._budgets.get(caller(), request.name)

    async def ListBudgets(self, request: wire.ListBudgetsRequest, context: Context) -> wire.ListBudgetsResponse:
        return await self._budgets.page(caller(), request)

    async def UpdateBudget(self, request: wire.UpdateBudgetRequest, context: Context) -> Budget:
        return await self._budgets.update(caller(), request)

    async def DeleteBudget(self, request: wire.DeleteBudgetRequest, context: Context) -> wire.DeleteBudgetResponse:
        return await self._budgets.delete(caller(), request)

    async def ListSpend(self, request: wire.ListSpendRequest, context: Context) -> wire.ListSpendResponse:
        return await self._budgets.spend(caller(), request)
