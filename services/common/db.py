"""The one door to Postgres. A transaction belongs to one tenant, and Postgres itself keeps it there.

async with db.tenant(caller) as tx:      # in a handler: audited by the method's action, read-only for a read
async with db.tenant(caller, action="turn.answered") as tx:    # work that goes on after its call
async with db.upkeep(caller) as tx:      # writes that are nobody's action: checkpoints, leases
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from services.common import audit, outbox
from services.common.background import alongside, lasting
from services.common.bell import Bell
from services.common.call import Call, current
from services.common.caller import Caller
from services.common.clock import Clock
from services.common.people.sealing import SubjectKey, pseudonym_of
from services.common.people.subjects import Subjects, is_room
from services.common.people.wrapping import open_tenant_keys
from services.common.postgres import ACQUIRE_S, STATEMENT_S, Pool, as_tenant, connect, store_errors, whole
from services.common.postgres import Record as Record

OPENING = """
SELECT format('BEGIN %s; SELECT set_config(''role'', %L, true), set_config(''search_path'', %L, true)',
              $1::text, $2::text, $3::text)
"""
OWN = "BEGIN"


class Transaction:
    """Statements of one tenant, all or nothing. `about` names the resource that the audit row will speak of."""

    __slots__ = ("_conn", "_keys", "_note", "_subjects", "_told", "action", "call", "caller", "clock")

    def __init__(self, conn: Any, caller: Caller, action: str, call: Call, clock: Clock, subjects: Subjects) -> None:
        self._conn, self.caller, self.action, self.call, self.clock = conn, caller, action, call, clock
        self._subjects = subjects
        self._keys: dict[str, SubjectKey | None] = {}
        self._note: str | None = None
        self._told: list[outbox.Row] = []

    def about(self, resource: str) -> None:
        """What the audit row is about. A write that commits without it fails."""
        self._note = resource

    def about_nothing(self) -> None:
        """Nothing came of the action: commit without an audit row."""
        self.action = ""

    async def execute(self, statement: str, *values: object) -> None:
        await self._conn.execute(statement, *values)

    async def fetch(self, statement: str, *values: object) -> Sequence[Record]:
        rows: Sequence[Record] = await self._conn.fetch(statement, *values)
        return rows

    async def fetchrow(self, statement: str, *values: object) -> Record | None:
        row: Record | None = await self._conn.fetchrow(statement, *values)
        return row

    async def fetchval(self, statement: str, *values: object) -> Any:
        return await self._conn.fetchval(statement, *values)

    async def pseudonym(self, person: str = "") -> str:
        """What events call a person of the tenant, by default the caller: by their key's pseudonym. Rooms by name."""
        subject = person or self.caller.subject
        key = await self.key(subject)
        return key.pseudonym if key else subject

    async def known_as(self, person: str) -> str | None:
        """The same for one who may have no key: None. For reads."""
        key = await self._subjects.find(self._conn, self.caller.tenant, person)
        return key.pseudonym if key else None

    async def seal(self, text: str, writer: str, place: str) -> str:
        """What this person of the tenant wrote, to be read with their key alone. What rooms say is nobody's."""
        key = await self.key(writer)
        if key is None:
            raise RuntimeError(f"{writer} is nobody whose text could be sealed")
        return key.seal(text, place)

    async def open(self, sealed: str, place: str, tenant: str = "") -> str | None:
        """What a person of the tenant, by default the caller's, wrote at `place`: for those whom Postgres lets have
        their keys (003_subjects.sql). None when the person was forgotten. Raises sealing.Unreadable."""
        tenant = tenant or self.caller.tenant
        key = await self._subjects.by_pseudonym(self._conn, tenant, pseudonym_of(sealed))
        return key.open(sealed, place) if key else None

    def tell(self, event: Message) -> None:
        """Write the event down at commit. ValueError when it breaks its schema."""
        self._told.append(outbox.row(event, self.call.traceparent))

    async def audit(self, action: str, *, resource: str | None = None, reason: str | None = None) -> None:
        """Tell the audit trail of something done, or refused for a reason, beside the transaction's own action."""
        key = await self.key(self.caller.subject)
        now = self.clock.now()
        self.tell(audit.event(self.caller, key, action, self.call, now, resource=resource, reason=reason))

    async def settle(self) -> bool:
        """Write down what was told, the transaction's own action last. Called at commit. Whether there was any."""
        if self.action:
            if self._note is None:
                raise RuntimeError(f"{self.action} commits without saying what it is about: call tx.about(resource)")
            await self.audit(self.action, resource=self._note)
        if self._told:
            await self.execute(*outbox.insert(self._told))
        return bool(self._told)

    async def key(self, subject: str) -> SubjectKey | None:
        """A person's key, made when there is none; None for rooms. What is made here is not looked for again, since it
        counts from the commit on."""
        if subject not in self._keys:
            self._keys[subject] = await self._subjects.of(self._conn, self.caller.tenant, subject)
        return self._keys[subject]


@dataclass(frozen=True, slots=True)
class Database:
    """A pool of connections, each free to become one tenant for one transaction."""

    pool: Pool
    clock: Clock
    subjects: Subjects
    bell: Bell = field(default_factory=Bell)
    openings: dict[tuple[str, bool], str] = field(default_factory=dict)
    """How the transactions of tenants begin, for reads alone or not: quoted by Postgres itself."""

    @asynccontextmanager
    async def tenant(self, caller: Caller, *, action: str = "") -> AsyncIterator[Transaction]:
        """A transaction of the caller's tenant. Without an action of its own it has the call's, and a call that has
        none only reads. Raises Unavailable STORE_UNAVAILABLE when Postgres is away, Denied TENANT_UNKNOWN."""
        call = current.get()
        action = action or call.action
        async with self._begin(caller, action, call, readonly=not action) as tx:
            yield tx

    @asynccontextmanager
    async def upkeep(self, caller: Caller) -> AsyncIterator[Transaction]:
        """A transaction that is nobody's action and leaves no audit row."""
        async with self._begin(caller, "", current.get(), readonly=False) as tx:
            yield tx

    async def keys(self, caller: Caller, people: Iterable[str]) -> Mapping[str, SubjectKey | None]:
        """The keys of people of the caller's tenant: made where there is none; None for rooms. Postgres is asked for
        those that are not known here. Raises what `tenant` raises."""
        found = {person: self.subjects.known(caller.tenant, person) for person in people}
        unknown = sorted(person for person, key in found.items() if key is None and not is_room(person))
        if unknown:  # in the order of names, so that nobody waits in a ring
            async with self.upkeep(caller) as tx:
                found |= {person: await tx.key(person) for person in unknown}
        return found

    async def at_once(self, tenant: str, statement: str, *values: object, tells: bool) -> Sequence[Record]:
        """One statement that is a transaction by itself: it becomes the tenant's by its first value. `tells` says that
        it may write into the outbox. Raises what `tenant` raises."""
        with store_errors():
            async with self.pool.acquire(timeout=ACQUIRE_S) as conn:
                rows: Sequence[Record] = await as_tenant(conn.fetch(statement, tenant, *values), tenant)
        if tells:
            self.bell.ring()
        return rows

    async def look(self, statement: str, *values: object) -> Sequence[Record]:
        """Read control tables as the room itself, of all tenants."""
        with store_errors():
            rows: Sequence[Record] = await self.pool.fetch(statement, *values, timeout=STATEMENT_S)
            return rows

    async def audit(self, call: Call, action: str, *, resource: str = "", reason: str = "") -> None:
        """Write down what a person has read, or was refused for a reason, in a transaction of its own."""
        async with self.upkeep(call.caller) as tx:
            await tx.audit(action, resource=resource or None, reason=reason or None)

    @asynccontextmanager
    async def own(self, caller: Caller, *, within_s: float = 0.0) -> AsyncIterator[Transaction]:
        """A transaction of the room itself on control tables, in no tenant's name: for workers. Postgres ends it when
        it takes longer than `within_s`, if that is given."""
        with store_errors():
            async with self.pool.acquire(timeout=ACQUIRE_S) as conn, whole(conn):
                await conn.execute(f"{OWN}; SET LOCAL transaction_timeout = {within_s * 1000:.0f}" if within_s else OWN)
                tx = Transaction(conn, caller, "", current.get(), self.clock, self.subjects)
                yield tx
                told = await tx.settle()
        if told:
            self.bell.ring()

    @asynccontextmanager
    async def _begin(self, caller: Caller, action: str, call: Call, *, readonly: bool) -> AsyncIterator[Transaction]:
        with store_errors():
            async with self.pool.acquire(timeout=ACQUIRE_S) as conn, whole(conn):
                await self._enter(conn, caller.tenant, readonly)
                tx = Transaction(conn, caller, action, call, self.clock, self.subjects)
                if action:  # before any other lock, so that two of one new person wait for each other here
                    await tx.pseudonym()
                yield tx
                told = await tx.settle()
        if told:
            self.bell.ring()

    async def _enter(self, conn: Any, tenant: str, readonly: bool) -> None:
        """Begin a transaction and make it the tenant's, by one message."""
        opening = self.openings.get((tenant, readonly)) or await conn.fetchval(
            OPENING, "READ ONLY" if readonly else "", f"t_{tenant}", f"t_{tenant}, ext"
        )
        await as_tenant(conn.execute(opening), tenant)
        self.openings[tenant, readonly] = opening


@asynccontextmanager
async def open_database(url: str, keys_url: str, clock: Clock, *, connections: int = 16) -> AsyncIterator[Database]:
    """Connections of a room's own role. Opens when Postgres answers, within 30 seconds."""
    async with open_tenant_keys(keys_url) as keys:
        pool, bell = await connect(url, connections), Bell()
        try:
            async with alongside(lasting(lambda: bell.tell(url), name="bell"), name="bell"):
                yield Database(pool, clock, Subjects(keys), bell)
        finally:
            try:
                await asyncio.wait_for(pool.close(), timeout=5)
            except TimeoutError:
                pool.terminate()
