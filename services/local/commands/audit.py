"""`soma audit`: a tenant's trail for outsiders, proven offline; its keys; and people forgotten."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from services.local.at_database import at_database
from services.local.fault import Fault
from services.local.stack import load_stack

Result = TypeVar("Result")
FORGETTING = """\
{subject} of {tenant} has a key of their own, which will be destroyed. That cannot be undone.
  Unreadable within a minute, here and in every export and archive: who their events speak of, and what they wrote.
  With it: what the router decided for them goes on under a pseudonym, answers kept for repeated requests are deleted.
  Still there: the events themselves under the pseudonym, and every proof of the audit trail.
  Not touched: their conversations and panes, which they or their rooms delete. Events name conversations: until those
  are deleted, whoever reads the database sees whose events they are.
  Not reached: backups of the database, and its write-ahead log until it is recycled; both hold the key, wrapped.
"""


def export(home: Path, tenant: str, out: Path, first: int) -> None:
    """Write the file, whole or not at all."""
    from services.common import schema
    from services.local.audit.export import Extent, measure
    from services.local.audit.file import write_file
    from services.local.commands.bar import bar
    from services.local.database import admin_url_of

    check(tenant)

    async def work() -> Extent:
        async with schema.connected(admin_url_of(load_stack(home))) as conn:
            extent = await measure(conn, tenant, first)
            with bar(f"Exporting {tenant}", extent.size - first) as show:
                await write_file(conn, extent, out, lambda size: show(size - first, size - first))
            return extent

    try:
        extent = at_database(work())
    except OSError as error:
        raise Fault(f"{out} cannot be written: {error.strerror}.") from error
    count = extent.size - extent.first
    span = f"event {first}" if count == 1 else f"{count:,} events, {first} to {extent.size - 1}"
    print(f"{out}: {span}, {out.stat().st_size / 1024:,.0f} kB. Prove it: soma audit verify {out}")


def verify(file: Path, as_json: bool, head: Path | None, keys: Sequence[str]) -> int:
    """Print what is proven or found. Returns the exit code."""
    from services.local.audit.verify import verify
    from services.local.commands.audited import known_of, show, show_json
    from services.local.commands.bar import bar

    known = known_of(head, keys)
    try:
        with file.open("rb") as opened, bar(f"Verifying {file.name}", file.stat().st_size) as progress:
            verdict = verify(opened, known, progress)
    except OSError as error:
        raise Fault(f"{file} cannot be read: {error.strerror}.") from error
    if as_json:
        show_json(verdict, known)
    else:
        with suppress(SystemExit):  # rich's, when nobody reads on: the verdict stands
            show(file, verdict, known)
    return 1 if verdict.finding else 0


def heads(home: Path, tenant: str) -> None:
    """The newest checkpoint and nothing else, so that it can be kept in a file."""
    from services.common import schema
    from services.local.audit.export import newest_head
    from services.local.database import admin_url_of

    check(tenant)

    async def work() -> str:
        async with schema.connected(admin_url_of(load_stack(home))) as conn:
            return (await newest_head(conn, tenant)).checkpoint

    sys.stdout.write(at_database(work()))


def key(home: Path, tenant: str) -> None:
    """The verifier key that signs now and nothing else."""
    from services.common import schema
    from services.common.trail import trail
    from services.local.audit.export import check_served
    from services.local.database import admin_url_of

    check(tenant)

    async def work() -> str:
        async with schema.connected(admin_url_of(load_stack(home))) as conn:
            if not (spans := await trail.keys(conn, tenant)):
                await check_served(conn, tenant)
                raise Fault(f"{tenant} has no audit key yet: it is made when its first event is sealed.")
            return spans[-1].key.line

    print(at_database(work()))


def forgetting(tenant: str, subject: str) -> str:
    """What it means to forget them, to be read before."""
    check_person(tenant, subject)
    return FORGETTING.format(tenant=tenant, subject=subject)


def forget(home: Path, tenant: str, subject: str) -> None:
    """Destroy a person's key."""
    from services.common import schema
    from services.common.people.forgetting import forget
    from services.local.audit.export import check_served
    from services.local.database import admin_url_of

    check_person(tenant, subject)

    async def work() -> str | None:
        async with schema.connected(admin_url_of(load_stack(home))) as conn:
            await check_served(conn, tenant)
            return await forget(conn, tenant, subject)

    if not (pseudonym := at_database(work())):
        raise unknown(tenant, subject)
    print(
        f"{subject} is forgotten. Events go on to name {pseudonym}, and every proof holds. What still leads from that "
        "to them: their conversations until these are deleted, backups, and the write-ahead log until it is recycled."
    )


def rotate(home: Path, tenant: str) -> None:
    """Make a new key that signs the trail from now on."""
    from services.common import schema
    from services.common.caller import Caller
    from services.common.clock import SystemClock
    from services.common.db import open_database
    from services.common.errors import Refusal
    from services.common.trail.signing import open_signing_keys
    from services.local.database import admin_url_of
    from services.local.parts import database_url
    from services.workers.sealer.sealer import Sealer

    check(tenant)
    stack = load_stack(home)

    async def work() -> str:
        async with schema.connected(admin_url_of(stack)):
            """It answers: a room would wait for it to."""
        async with (
            open_signing_keys(stack.keys_url) as keys,
            open_database(database_url(stack, "workers"), stack.keys_url, SystemClock(), connections=2) as db,
        ):
            return (await Sealer(keys, SystemClock()).rotate(db, Caller.system("operator", tenant))).line

    try:
        line = at_database(work())
    except Refusal as refusal:
        raise Fault(str(refusal)) from refusal
    print(f"From now on the trail of {tenant} is signed with\n{line}\nThe old key vouches for it in the trail.")


def check(tenant: str) -> None:
    """Fault for what cannot be the name of a tenant."""
    from services.common.caller import TENANT

    if not TENANT.fullmatch(tenant):
        raise Fault(f"{tenant!r} cannot be a tenant: use 2 to 40 of a-z, 0-9 and _, beginning with a letter.")


def check_person(tenant: str, subject: str) -> None:
    """Fault for what cannot name a person either, such as bytes that are no text."""
    check(tenant)
    if re.search("[\ud800-\udfff]", subject):
        raise unknown(tenant, subject)


def unknown(tenant: str, subject: str) -> Fault:
    return Fault(f"{tenant} knows nobody called {subject!r}: nothing was forgotten.")
