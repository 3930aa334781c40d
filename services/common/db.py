"""The one door to Postgres. A transaction belongs to one tenant, and Postgres itself keeps it there.

async with db.tenant(caller) as tx:      # in a handler: audited by the method's action, read-only for a read
async with db.tenant(caller, action="turn.answered") as tx:    # work that goes on after its call
async with db.upkeep(caller) as tx:      # writes that are nobody's action: checkpoints, leases
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import Message

from services.common import audit, outbox
from services.common.call import Call, current
from services.common.caller import Caller
from services.common.clock import Clock
from services.common.errors import Denied, Invalid, Unavailable
from services.common.sealing import SubjectKey
from services.common.subjects import Subjects
from services.common.wrapping import tenant_keys

Record = asyncpg.Record

ENTER = "SELECT set_config('role', $1, true), set_config('search_path', $2, true)"
ACQUIRE_S = 5.0
STATEMENT_S = 10.0


class Transaction:
    """Statements of one tenant, all or nothing. `about` names the resource that the audit row will speak of."""

    __slots__ = ("_conn", "_note", "_subjects", "_told", "action", "call", "caller", "clock")

    def __init__(self, conn: Any, caller: Caller, action: str, call: Call, clock: Clock, subjects: Subjects) -> None:
        self._conn, self.caller, self.action, self.call, self.clock = conn, caller, action, call, clock
        self._subjects = subjects
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

    async def pseudonym(self) -> str:
        """What events call the caller: a room by its name, a person by their key's pseudonym."""
        key = await self._key(self.caller.subject)
        return key.pseudonym if key else self.caller.subject

    async def seal(self, text: str, writer: str, place: str) -> str:
        """What this person of the tenant wrote, to be read with their key alone. What rooms say is nobody's."""
        key = await self._key(writer)
        if key is None:
            raise RuntimeError(f"{writer} is nobody whose text could be sealed")
        return key.seal(text, place)

    def tell(self, event: Message) -> None:
        """Write the event down at commit. ValueError when it breaks its schema."""
        self._told.append(outbox.row(event, self.call.traceparent))

    async def audit(self, action: str, *, resource: str | None = None, reason: str | None = None) -> None:
        """Tell the audit trail of something done, or refused for a reason, beside the transaction's own action."""
        key = await self._key(self.caller.subject)
        now = self.clock.now()
        self.tell(audit.event(self.caller, key, action, self.call, now, resource=resource, reason=reason))

    async def settle(self) -> None:
        """Write down what was told, the transaction's own action last. Called at commit."""
        if self.action:
            if self._note is None:
                raise RuntimeError(f"{self.action} commits without saying what it is about: call tx.about(resource)")
            await self.audit(self.action, resource=self._note)
        if self._told:
            await self.execute(outbox.INSERT, *outbox.columns(self._told))

    async def _key(self, subject: str) -> SubjectKey | None:
        return await self._subjects.of(self._conn, self.caller.tenant, subject)


@dataclass(frozen=True, slots=True)
class Database:
    """A pool of connections, each free to become one tenant for one transaction."""

    pool: asyncpg.Pool[Record]
    clock: Clock
    subjects: Subjects

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

    async def look(self, statement: str, *values: object) -> Sequence[Record]:
        """Read control tables as the room itself, of all tenants."""
        with store_errors():
            rows: Sequence[Record] = await self.pool.fetch(statement, *values, timeout=STATEMENT_S)
            return rows

    async def audit_refusal(self, call: Call, action: str, reason: str) -> None:
        """Write down that a person's call was refused, in a transaction of its own."""
        async with self.upkeep(call.caller) as tx:
            await tx.audit(action, reason=reason)

    @asynccontextmanager
    async def own(self, caller: Caller) -> AsyncIterator[Transaction]:
        """A transaction of the room itself on control tables, in no tenant's name: for workers."""
        with store_errors():
            async with self.pool.acquire(timeout=ACQUIRE_S) as conn, conn.transaction():
                tx = Transaction(conn, caller, "", current.get(), self.clock, self.subjects)
                yield tx
                await tx.settle()

    @asynccontextmanager
    async def _begin(self, caller: Caller, action: str, call: Call, *, readonly: bool) -> AsyncIterator[Transaction]:
        with store_errors():
            async with self.pool.acquire(timeout=ACQUIRE_S) as conn, conn.transaction(readonly=readonly):
                await enter(conn, caller.tenant)
                if action:  # before any other lock, so that two of one new person wait for each other here
                    await self.subjects.of(conn, caller.tenant, caller.subject)
                tx = Transaction(conn, caller, action, call, self.clock, self.subjects)
                yield tx
                await tx.settle()


async def enter(conn: Any, tenant: str) -> None:
    try:
        await conn.execute(ENTER, f"t_{tenant}", f"t_{tenant}, ext")
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as refused:
        raise Denied("TENANT_UNKNOWN", f"This mesh does not serve the tenant {tenant}.", tenant=tenant) from refused


class store_errors:  # noqa: N801 - reads as a phrase: with store_errors()
    """Turns Postgres' absence, and a transaction that it gave up for another, into Unavailable STORE_UNAVAILABLE; the
    one character that no text there can hold into Invalid. Faults of our statements stay as they are."""

    AWAY = (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.PostgresSystemError,
        asyncpg.TransactionRollbackError,
    )

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, self.AWAY):
            message = "The database does not answer. Try again in a moment."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1) from fault
        if isinstance(fault, asyncpg.CharacterNotInRepertoireError):
            raise Invalid("REQUEST_INVALID", "The text holds the character NUL (U+0000). Leave it out.") from fault


@asynccontextmanager
async def open_database(url: str, keys_url: str, clock: Clock, *, connections: int = 16) -> AsyncIterator[Database]:
    """Connections of a room's own role. Opens when Postgres answers, within 30 seconds."""
    subjects = Subjects(tenant_keys(keys_url))
    pool = await connect(url, connections)
    try:
        yield Database(pool, clock, subjects)
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


async def connect(url: str, connections: int) -> asyncpg.Pool[Record]:
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncpg.create_pool(
                    url, min_size=2, max_size=connections, command_timeout=STATEMENT_S, timeout=ACQUIRE_S
                )
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.1)
