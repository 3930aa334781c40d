"""The books in Postgres: many entries of one tenant by one transaction, and what is left of budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from services.common.caller import Caller
from services.common.db import Database, Record
from services.common.outbox import Row, as_json
from services.common.people.sealing import SubjectKey
from services.router import store
from services.router.budgets.entries import Admit, Entry, Settle
from services.router.budgets.room import Room, Scopes
from services.router.budgets.titles import room_of

WRITE = "SELECT outcome, overrun_microusd, overrun_tokens, room FROM soma.write_books($1, $2::text::jsonb, $3)"
ROOM = "SELECT soma.room_for($1, $2, $3, $4, $5)"
EXPIRED = "SELECT tenant FROM soma.ledgers WHERE sweep_time < now() ORDER BY sweep_time LIMIT 1000"
TIDY = "SELECT soma.tidy_budgets()"
TELLS = (Admit, Settle)


@dataclass(frozen=True, slots=True)
class Booked:
    """What became of an entry."""

    outcome: str
    """As soma.book says it."""
    overrun_microusd: int = 0
    overrun_tokens: int = 0
    room: Room = ()
    """What is left, where it was "short"."""


@dataclass(frozen=True, slots=True)
class Ledger:
    db: Database
    lease: timedelta

    async def write(self, tenant: str, entries: Sequence[Entry]) -> list[Booked | ValueError]:
        """All in one transaction, in order. ValueError for one whose event breaks its schema: it is left out. Raises
        Unavailable STORE_UNAVAILABLE, Denied TENANT_UNKNOWN."""
        people = {entry.call.caller.subject for entry in entries if isinstance(entry, TELLS)}
        keys = await self.db.keys(Caller.system("router", tenant), people)
        told = [self._told(entry, keys) for entry in entries]
        whole = [(entry, rows) for entry, rows in zip(entries, told, strict=True) if isinstance(rows, list)]
        tells = any(rows for _, rows in whole)
        booked = iter(await self.db.at_once(tenant, WRITE, given(whole), self.lease, tells=tells))
        return [booked_of(next(booked)) if isinstance(rows, list) else rows for rows in told]

    async def room(self, caller: Caller, scopes: Scopes) -> Room:
        async with self.db.upkeep(caller) as tx:
            s = scopes
            return room_of(await tx.fetchval(ROOM, s.user, s.team, s.conversation, s.task, s.key))

    async def tenants_with_expired_holds(self) -> Sequence[str]:
        return [row["tenant"] for row in await self.db.look(EXPIRED)]

    async def tidy(self, tenant: str) -> None:
        async with self.db.upkeep(Caller.system("router", tenant)) as tx:
            await tx.execute(TIDY)

    def _told(self, entry: Entry, keys: Mapping[str, SubjectKey | None]) -> list[Row] | ValueError:
        """What is to be told of it: of a move nothing, since the settlement says which model answered."""
        if not isinstance(entry, TELLS):
            return []
        try:
            return entry.told(keys[entry.call.caller.subject], self.db.clock.now())
        except ValueError as fault:
            return fault


def given(entries: Sequence[tuple[Entry, Sequence[Row]]]) -> str:
    """What soma.write_books is given: entries, each with what is told of it."""
    numbered = [(n, entry, rows) for n, (entry, rows) in enumerate(entries, 1)]
    lists = {
        "asked": [entry.asked() for _, entry, _ in numbered],
        "decided": [{"n": n, **entry.decided()} for n, entry, _ in numbered if isinstance(entry, Admit)],
        "settled": [{"n": n, **store.settled(e.settlement)} for n, e, _ in numbered if isinstance(e, Settle)],
        "told": [{"n": n, **as_json(row)} for n, _, rows in numbered for row in rows],
    }
    return msgspec.json.encode(lists).decode()


def booked_of(row: Record) -> Booked:
    outcome, overrun_microusd, overrun_tokens, room = row
    return Booked(outcome, overrun_microusd, overrun_tokens, room_of(room) if room else ())
