"""`soma route policy`: which version of a tenant's policy holds, at the database of a mesh that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.local.at_database import at_database, opened, operator
from services.local.commands.keys import plain
from services.local.stack import load_stack

if TYPE_CHECKING:
    from soma.router.v1.policy_pb2 import Policy

SHOWN = 100


def show(home: Path, tenant: str, as_json: bool) -> None:
    """Print the newest versions, and which one holds."""
    from google.protobuf.json_format import MessageToDict

    from services.common import policies as store
    from services.router.policies.rows import name_of, shown
    from services.router.policies.switching import built_in
    from services.router.policies.versions import HIGHEST

    stack, caller = load_stack(home), operator(tenant)

    async def work() -> list[Policy]:
        async with opened(stack, "router") as db, db.tenant(caller) as tx:
            active = (await store.active(tx)).version
            found = [shown(row) for row in await store.page(tx, HIGHEST, SHOWN)] + [built_in()]
        for policy in found:
            policy.active = policy.name == name_of(active)
        return found

    versions = at_database(work())
    if as_json:
        sys.stdout.write(json.dumps([MessageToDict(policy) for policy in versions], indent=2) + "\n")
    else:
        in_short(versions)


def activate(home: Path, tenant: str, version: str) -> str:
    """Let a version hold; returns what is now true."""
    from services.common.learning.posterior import posterior_of
    from services.common.learning.prior import shipped
    from services.router.policies import switching

    stack, caller, prior = load_stack(home), operator(tenant), shipped()
    name = version if version.startswith("policies/") else f"policies/{version}"

    async def work() -> Policy:
        async with opened(stack, "router") as db, db.tenant(caller, action="policy.activated") as tx:
            return await switching.activate(tx, name, lambda learned: posterior_of(learned, prior))

    return holds(tenant, at_database(work()))


def roll_back(home: Path, tenant: str) -> str:
    """Let the version hold that held before; returns what is now true."""
    from services.router.policies import switching

    stack, caller = load_stack(home), operator(tenant)

    async def work() -> Policy:
        async with opened(stack, "router") as db, db.tenant(caller, action="policy.rolled_back") as tx:
            return await switching.roll_back(tx)

    return holds(tenant, at_database(work()))


def holds(tenant: str, policy: Policy) -> str:
    note = f" ({plain(policy.note)})" if policy.note else ""
    return f"{policy.name}{note} holds for {tenant}: within a second every router goes by it."


def in_short(versions: Sequence[Policy]) -> None:
    from datetime import UTC

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("version", "", "made", "by", "dial", "learned", "note"):
        table.add_column(column, overflow="fold")
    for policy in versions:
        made = f"{policy.create_time.ToDatetime(UTC):%Y-%m-%d %H:%M}" if policy.HasField("create_time") else "-"
        dial = f"{policy.dial:g}" if policy.HasField("dial") else "0.5"
        told = (policy.name, "holds" if policy.active else "", made, policy.author, dial, policy.learned[:12] or "-")
        table.add_row(*(Text(plain(value)) for value in (*told, policy.note)))
    Console(highlight=False).print(table)
