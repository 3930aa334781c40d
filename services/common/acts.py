"""What those who run the mesh do to it, told to the audit trails of the tenants concerned: as administrator of the
database, in the transaction of the connection that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.common import audit, outbox
from services.common.call import NOBODY
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id, rfc3339
from soma.events.v1alpha1.mode_pb2 import ModeEvent

OPERATOR = "operator"
"""Whose doing it is, as in system:operator."""

TENANTS = "SELECT name FROM soma.tenants ORDER BY name"


async def tell(conn: Any, action: str, resource: str, tenant: str = "") -> None:
    """An act of the operator's, to one tenant's trail; without a tenant it concerns the mesh, and so all of them."""
    now = SystemClock().now()
    callers = [Caller.system(OPERATOR, name) for name in await concerned(conn, tenant)]
    await write(conn, [audit.event(caller, None, action, NOBODY, now, resource=resource) for caller in callers])


async def tell_mode(conn: Any, old: str, new: str) -> None:
    """That the mesh runs in another mode, or for the first time in any: an event and an audit event for each tenant."""
    now = rfc3339(SystemClock().now())
    who = f"system:{OPERATOR}"
    await write(
        conn,
        [
            ModeEvent(
                id=str(new_id()), type="mode.changed", version=1, time=now, tenant=tenant, subject=who, old=old or None,
                new=new, why="The mesh was started in this mode.",
            )
            for tenant in await concerned(conn, "")
        ],
    )  # fmt: skip
    await tell(conn, "mode.changed", f"modes/{new}")


async def concerned(conn: Any, tenant: str) -> Sequence[str]:
    return [tenant] if tenant else [row["name"] for row in await conn.fetch(TENANTS)]


async def write(conn: Any, events: Sequence[Any]) -> None:
    if events:
        await conn.execute(outbox.INSERT, *outbox.columns([outbox.row(event, "") for event in events]))
