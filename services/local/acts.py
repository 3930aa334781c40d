"""What the operator does to the mesh, for the audit trails of its tenants. It is kept in a file until they have it, so
that what is done while the mesh is down is told when it is up again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.common.clock import new_id
from services.local.fault import Fault, of_disk
from services.local.files import write_whole
from services.local.stack import Stack, load_stack


@contextmanager
def acting(home: Path, action: str, resource: str, tenant: str = "") -> Iterator[None]:
    """What is done inside is an act of the operator's, on one tenant or on the mesh, which concerns all of them. It is
    not done unless it could be written down before; what fails is no act. Told at least once."""
    stack = load_stack(home)
    doing = folder_of(stack) / f"{new_id()}.doing"
    try:
        doing.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(doing, json.dumps({"action": action, "resource": resource, "tenant": tenant}).encode())
    except OSError as error:
        raise of_disk(error, home) from error
    try:
        yield
    except BaseException:
        doing.unlink(missing_ok=True)
        raise
    doing.replace(doing.with_suffix(".json"))
    with suppress(Fault):  # the next start tells it
        asyncio.run(tell_kept(stack))


async def tell_kept(stack: Stack) -> None:
    """Tell the trails what they do not have yet. Fault when the database does not take it now."""
    from services.common import acts, schema
    from services.local.database import admin_url_of

    if not any(folder_of(stack).glob("*.json")):
        return
    try:
        async with schema.administering(admin_url_of(stack)) as conn:
            for file in sorted(folder_of(stack).glob("*.json")):
                act = json.loads(file.read_text())
                async with conn.transaction():
                    await acts.tell(conn, act["action"], act["resource"], act["tenant"])
                file.unlink()
    except (schema.Refused, OSError, TimeoutError) as error:
        raise Fault(f"What was done to the mesh is not in its audit trails yet: {error}.") from error


async def tell_mode(stack: Stack) -> None:
    """Tell that the mesh runs in another mode than the last time. Fault like `tell_kept`."""
    from services.common import acts, schema
    from services.local.database import admin_url_of

    file = stack.run / "mode"
    last = file.read_text() if file.exists() else ""
    if last == stack.mode:
        return
    try:
        async with schema.administering(admin_url_of(stack)) as conn, conn.transaction():
            await acts.tell_mode(conn, last, stack.mode)
        write_whole(file, stack.mode.encode())
    except (schema.Refused, OSError, TimeoutError) as error:
        raise Fault(f"The audit trails were not told of the mode: {error}.") from error


def folder_of(stack: Stack) -> Path:
    return stack.run / "acts"
