"""The door to asyncpg for `db`: connections, how they become a tenant's, and what becomes of Postgres' faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pgproto.pgproto import UUID as UUID  # equal to the standard one, read in a quarter of the time

from services.common.errors import Denied, Invalid, Unavailable
from services.common.people.wrapping import KeyAway
from services.common.telemetry import log

Record: TypeAlias = asyncpg.Record
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

ACQUIRE_S = 5.0
STATEMENT_S = 10.0


async def as_tenant(statement: Awaitable[Any], tenant: str) -> Any:
    """What comes of a statement that becomes a tenant's."""
    try:
        return await statement
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError) as refused:
        raise Denied("TENANT_UNKNOWN", f"This mesh does not serve the tenant {tenant}.", tenant=tenant) from refused


@asynccontextmanager
async def whole(conn: Any) -> AsyncIterator[None]:
    """Commits what was begun within the block, or rolls it back."""
    try:
        yield
    except BaseException:
        try:
            await conn.execute("ROLLBACK")
        except BaseException as fault:  # nobody else must get it in mid-transaction
            with suppress(asyncpg.InterfaceError):
                conn.terminate()
            if not isinstance(fault, store_errors.AWAY):
                raise
        raise
    if await conn.execute("COMMIT") != "COMMIT":
        raise RuntimeError("a statement has failed and the step went on as if it had not: nothing was kept")


class store_errors:  # noqa: N801 - reads as a phrase: with store_errors()
    """Turns Postgres' absence, a transaction that it gave up for another, and the absence of a tenant's key into
    Unavailable STORE_UNAVAILABLE; the one character that no text there can hold into Invalid. Faults of our statements
    stay as they are."""

    AWAY = (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # the server's last word came while nothing was asked
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.PostgresSystemError,
        asyncpg.TransactionRollbackError,
        asyncpg.TransactionTimeoutError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.LockNotAvailableError,
    )

    NUL = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
    """As text, and in JSON."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, self.AWAY):
            why = "has no space left" if is_full(fault) else "does not answer"
            message = f"The database {why}. Try again in a moment."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1) from fault
        if isinstance(fault, self.NUL):
            raise Invalid("REQUEST_INVALID", "The text holds the character NUL (U+0000). Leave it out.") from fault
        if isinstance(fault, KeyAway):
            log().error("a tenant's key is away", why=str(fault))
            message = "What people write cannot be sealed or opened now. Try again in a moment."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=2) from fault


def is_full(fault: object) -> bool:
    """Whether Postgres found no space on its disk."""
    return isinstance(fault, asyncpg.DiskFullError)


async def unchanged(_conn: object) -> None:
    """Nothing to be undone on a connection that comes back: what we set, we set for a transaction."""


async def connect(url: str, connections: int) -> asyncpg.Pool[Record]:
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncpg.create_pool(
                    url, min_size=2, max_size=connections, command_timeout=STATEMENT_S, timeout=ACQUIRE_S,
                    reset=unchanged,
                )  # fmt: skip
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.1)


async def connect_once(url: str) -> Any:
    """One connection for what nobody waits for: it does not wait for the disk."""
    settings = {"synchronous_commit": "off"}
    return await asyncpg.connect(url, timeout=ACQUIRE_S, command_timeout=ACQUIRE_S, server_settings=settings)
