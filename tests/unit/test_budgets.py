"""Budgets without their doors: what people read, what counts as used, and who shares a transaction with whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from services.common.errors import Unavailable
from services.router.budgets.entries import MOST, Entry, Renew, used_by
from services.router.budgets.ledger import Booked
from services.router.budgets.queue import MOST_AT_ONCE, Queue
from services.router.budgets.room import Amount
from services.router.budgets.titles import room_of
from tests.booking import call_of, opening_of, settlement_of

BOUND = {
    "budget": "1", "scope": "user", "whose": "ann", "period": "day", "rolling": False, "tier": "", "microusd": 5,
    "tokens": None, "requests": 0, "renews": "2026-01-02T00:00:00+00:00",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "the budget of user ann for this day"),
        ({"period": "hour", "rolling": True}, "the budget of user ann for the last hour"),
        ({"period": "total", "renews": None}, "the budget of user ann in total"),
        ({"scope": "tenant", "whose": "", "period": "month"}, "the budget of the tenant for this month"),
        ({"scope": "team", "whose": "red"}, "the budget of team red for this day"),
    ],
)
def test_a_budget_is_named_by_whose_it_is_and_for_how_long(changes: dict[str, object], title: str) -> None:
    (left,) = room_of(msgspec.json.encode([BOUND | changes]).decode())
    assert left.title == title


def test_the_narrowest_budget_comes_first_and_of_it_the_shortest_window() -> None:
    asked = [("tenant", "hour"), ("user", "day"), ("user", "hour"), ("task", "total")]
    room = room_of(
        msgspec.json.encode([BOUND | {"scope": s, "period": p, "budget": f"{s} {p}"} for s, p in asked]).decode()
    )
    assert [one.budget for one in room] == [
        "budgets/task total", "budgets/user hour", "budgets/user day", "budgets/tenant hour",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("used", "reason", "counted"),
    [
        (Amount(5, 7), "stop", Amount(5, 7, 1)),
        (Amount(5, 7), "cancelled", Amount(5, 7, 1)),
        (Amount(0, 0), "stop", Amount(0, 0, 1)),
        (Amount(0, 0), "cancelled", Amount(0, 0, 0)),
        (Amount(0, 0), "", Amount(0, 0, 0)),
        (Amount(-3, 0), "stop", Amount(0, 0, 1)),
        (Amount(2**62, 0), "stop", Amount(MOST, 0, 1)),
    ],
)
def test_what_counts_as_used(used: Amount, reason: str, counted: Amount) -> None:
    assert used_by(settlement_of(opening_of(call_of(), Amount(9, 9)), used, reason)) == counted


class Clerk:
    """Writes when it is let."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.let = asyncio.Event()
        self.fault: Exception | None = None

    async def write(self, entries: Sequence[Entry]) -> list[Booked | ValueError]:
        self.batches.append(len(entries))
        await self.let.wait()
        if self.fault and len(entries) > (0 if isinstance(self.fault, Unavailable) else 1):
            raise self.fault
        return [Booked("held") for _ in entries]


async def put_many(queue: Queue, count: int) -> list[asyncio.Task[Booked]]:
    tasks = [asyncio.create_task(queue.put(Renew([]))) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_what_waits_while_a_transaction_is_under_way_goes_into_the_next_one_together() -> None:
    clerk = Clerk()
    queue = Queue(clerk.write)
    first = await put_many(queue, 1)
    while not clerk.batches:
        await asyncio.sleep(0)
    later = await put_many(queue, MOST_AT_ONCE + 6)
    clerk.let.set()
    await asyncio.gather(*first, *later)
    assert clerk.batches == [1, MOST_AT_ONCE, 6]


async def test_who_goes_away_before_their_turn_is_not_written() -> None:
    clerk = Clerk()
    queue = Queue(clerk.write)
    first = await put_many(queue, 1)
    while not clerk.batches:
        await asyncio.sleep(0)
    gone, stays = await put_many(queue, 2)
    gone.cancel()
    await asyncio.wait([gone])
    clerk.let.set()
    await asyncio.gather(*first, stays)
    assert clerk.batches == [1, 1]


async def test_a_fault_of_one_does_not_fail_the_others_and_the_stores_absence_fails_all() -> None:
    clerk = Clerk()
    clerk.let.set()
    clerk.fault = RuntimeError("one of them")
    assert all(isinstance(one, Booked) for one in await asyncio.gather(*await put_many(Queue(clerk.write), 3)))
    clerk.fault = Unavailable("STORE_UNAVAILABLE", "It is away.")
    results = await asyncio.gather(*await put_many(Queue(clerk.write), 3), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in results)
