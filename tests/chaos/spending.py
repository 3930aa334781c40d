"""A process that spends through books of its own until it is killed: `python -m tests.chaos.spending URL KEYS LEASE_S`.

It prints the id of each call that has been settled, and never settles one in five.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from services.common.background import alongside
from services.common.clock import SystemClock
from services.common.db import open_database
from services.common.errors import Refusal
from services.router.budgets.books import Books
from services.router.budgets.room import Amount
from tests.booking import call_of, opening_of, settlement_of

AT_ONCE = 16
MOST, USED = Amount(20, 20), Amount(12, 15)


async def spend(books: Books, who: int, settled: list[str], *, forgets: bool) -> None:
    """Until cancelled. A call whose end is unknown is settled as one that cost nothing."""
    call = call_of(f"p{who % 4}")
    for n in itertools.count():
        opening = opening_of(call, MOST)
        try:
            room = await books.admit(opening)
        except Refusal:
            books.settle(call, settlement_of(opening, Amount(0, 0), "cancelled"))
            await asyncio.sleep(0.05)
            continue
        if room is not None:
            await asyncio.sleep(0.02)
        elif not (forgets and (n + who) % 5 == 4):
            await books.settle(call, settlement_of(opening, USED))
            settled.append(opening.decision.id)
            print(opening.decision.id, flush=True)


async def main(url: str, keys: str, lease_s: float) -> None:
    async with open_database(url, keys, SystemClock()) as db:
        books = Books(db, lease_s=lease_s)
        async with alongside(books.keep(), name="leases"), asyncio.TaskGroup() as tasks:
            for who in range(AT_ONCE):
                tasks.create_task(spend(books, who, [], forgets=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
