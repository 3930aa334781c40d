"""`soma key`: API keys of a tenant, made and revoked at the database of a mesh that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from services.local.at_database import at_database, opened, operator
from services.local.fault import Fault
from services.local.stack import load_stack

if TYPE_CHECKING:
    from soma.router.v1.key_pb2 import Key

MICROUSD = 1_000_000
DEAREST_USD = 1_000_000_000
SHOWN = 1000
COLUMNS = ("key", "begins with", "person", "team", "models", "budget", "state", "title")
ONLY_WIDE = ("begins with", "team", "models", "budget")
"""What a terminal narrower than this many columns is not shown: `--json` shows all. A key's name has to stay on one
line, to be copied."""
WIDE = 150


@dataclass(frozen=True, slots=True)
class Asked:
    """What `soma key create` was told."""

    tenant: str
    person: str
    team: str
    budget_usd: str
    models: Sequence[str]
    title: str
    days: float


def create(home: Path, asked: Asked) -> str:
    """The key's secret, which nobody can show again. What is said of it goes to stderr."""
    from services.common.validation import check
    from services.router.keys.issue import issue
    from soma.router.v1.key_service_pb2 import CreateKeyRequest

    stack, caller, wanted, models = load_stack(home), operator(asked.tenant), key_of(asked), models_of(home)

    async def work() -> Key:
        check(CreateKeyRequest(key=wanted))
        async with opened(stack, "router") as db, db.tenant(caller, action="key.created") as tx:
            key = await issue(tx, wanted, models)
            tx.about(key.name)
            return key

    made = at_database(work())
    sys.stderr.write(f"{made.name} is {made.person}'s. It is not shown again. End it: {ending(asked.tenant, made)}\n")
    return made.secret


def show(home: Path, tenant: str, as_json: bool) -> None:
    """Print the tenant's keys, newest first."""
    from google.protobuf.json_format import MessageToDict

    from services.common.pages import NEWEST
    from services.router.keys import store

    stack, caller = load_stack(home), operator(tenant)

    async def work() -> list[Key]:
        async with opened(stack, "router") as db, db.tenant(caller) as tx:
            return await store.page(tx, NEWEST, SHOWN)

    keys = at_database(work())
    if as_json:
        sys.stdout.write(json.dumps([MessageToDict(key) for key in keys], indent=2) + "\n")
    elif keys:
        in_short(keys)
    else:
        sys.stdout.write(f"{tenant} has no API keys. Make one: soma key create --tenant {tenant} --person …\n")


def revoke(home: Path, tenant: str, name: str) -> str:
    """End a key; returns what is now true."""
    from services.router.keys import issue

    stack, caller = load_stack(home), operator(tenant)
    full = name if name.startswith("keys/") else f"keys/{name}"

    async def work() -> Key:
        async with opened(stack, "router") as db, db.tenant(caller, action="key.revoked") as tx:
            tx.about(full)
            return await issue.revoke(tx, full)

    key = at_database(work())
    return f"{key.name} of {key.person} is revoked: within a second nobody takes it any more."


def models_of(home: Path) -> Collection[tuple[str, str]]:
    """All of the catalogue, by provider and name: ours and those of `soma provider`. Fault for a broken file."""
    from services.router.entries import Unreadable, built_in, merge, parse

    file = home / "providers.toml"
    try:
        entries = merge(built_in(), parse(file) if file.exists() else ())
    except Unreadable as fault:
        raise Fault(str(fault)) from fault
    return [(entry.name, model.name) for entry in entries for model in entry.model]


def key_of(asked: Asked) -> Key:
    """Raises Fault for nobody, for what is no text, or no amount."""
    from soma.router.v1.key_pb2 import Key

    if not asked.person.partition("@")[0].strip():
        raise Fault("--person is empty. Say whose calls they are: a name of the tenant, or a subject.")
    person = asked.person if "@" in asked.person else f"{asked.person}@{asked.tenant}"
    try:
        key = Key(person=person, team=asked.team, models=asked.models, title=asked.title)
    except ValueError as fault:
        raise Fault("What describes the key holds bytes that are no text.") from fault
    if asked.budget_usd:
        key.budget_microusd = microusd_of(asked.budget_usd)
    if asked.days:
        key.expire_time.GetCurrentTime()
        key.expire_time.seconds += round(asked.days * 86400)
    return key


def microusd_of(usd: str) -> int:
    """Raises Fault for what is no amount."""
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= DEAREST_USD:
        raise Fault(f"--budget-usd is {usd!r}; it must be an amount of dollars, such as 2.50.")
    return round(amount * MICROUSD)


def in_short(keys: Sequence[Key]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    columns = [column for column in COLUMNS if console.width >= WIDE or column not in ONLY_WIDE]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for key in keys:
        told = told_of(key)
        table.add_row(*(Text(plain(told[column])) for column in columns))
    console.print(table)


def told_of(key: Key) -> Mapping[str, str]:
    """By column."""
    money = f"${key.budget_microusd / MICROUSD:,.2f}" if key.HasField("budget_microusd") else "-"
    models = ", ".join(key.models) or "all"
    values = (key.name, key.hint, key.person, key.team or "-", models, money, state_of(key), key.title)
    return dict(zip(COLUMNS, values, strict=True))


def state_of(key: Key) -> str:
    from datetime import UTC, datetime

    if key.HasField("revoke_time"):
        return f"revoked {key.revoke_time.ToDatetime(UTC):%Y-%m-%d}"
    if not key.HasField("expire_time"):
        return "good"
    ends = key.expire_time.ToDatetime(UTC)
    return f"expired {ends:%Y-%m-%d}" if ends <= datetime.now(UTC) else f"good until {ends:%Y-%m-%d}"


def plain(value: str) -> str:
    """Without what steers a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in value)


def ending(tenant: str, key: Key) -> str:
    return f"soma key revoke {key.name} --tenant {tenant}"
