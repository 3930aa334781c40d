"""`soma reconcile`: the log held against Postgres, the archive and Valkey, once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.local.acts import acting
from services.local.at_database import at_database, log_url, opened
from services.local.fault import Fault
from services.local.stack import Stack, load_stack

if TYPE_CHECKING:
    from rich.console import Console

    from services.workers.reconcile.findings import Finding
    from services.workers.reconcile.reconcile import Report

MOST = 20
"""Findings of which the same is said that are printed."""


def reconcile(home: Path, tenant: str, repair: bool, as_json: bool) -> int:
    """Print what disagrees. 1 when something does that is not put right."""
    stack = load_stack(home)
    resource = f"tenants/{tenant}" if tenant else "mesh"
    with acting(home, "mesh.reconciled", resource, tenant) if repair else nullcontext():
        report = at_database(compare(stack, tenant, repair))
    if not (report.compared["tenants"] or report.findings):
        raise Fault(f"This mesh does not serve the tenant {tenant}." if tenant else "This mesh serves nobody yet.")
    if as_json:
        sys.stdout.write(json.dumps(facts(report), indent=2) + "\n")
    else:
        with suppress(SystemExit):  # rich's, when nobody reads on: what was found stands
            show(report)
    return 1 if any(not one.repaired for one in report.findings) else 0


async def compare(stack: Stack, tenant: str, repair: bool) -> Report:
    from services.common.cache import open_cache
    from services.common.log.engine import open_log
    from services.local.parts import workers_part
    from services.workers.bench import ARCHIVE_AGE
    from services.workers.reconcile.reconcile import Reconciler, archived_within

    url, environment = log_url(stack), workers_part(stack).environment
    archived = archived_within(ARCHIVE_AGE) if environment.get("SOMA_ARCHIVE_URL") else None
    async with (
        opened(stack) as db,
        open_log(url, db, None) as log,
        open_cache(environment["SOMA_CACHE_URL"], connections=2) as cache,
    ):
        return await Reconciler(db, log, cache, archived).compare(tenant, repair=repair)


def show(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if report.span.since >= report.span.until:
        console.print("Nothing that the log has is older than a minute yet.")
    else:
        console.print(f"Compared what happened from {clock(report.span.since)} to {clock(report.span.until)}:")
        console.print(f"[dim]{counted(report)}[/]")
    for same in alike(report.findings):
        show_alike(console, same)
    for skipped in report.skipped:
        console.print(f"\n[yellow]Not looked at.[/] {skipped}")
    if not report.findings:
        console.print("\n[green]✓[/] Nothing disagrees.")


def show_alike(console: Console, found: Sequence[Finding]) -> None:
    """One heading, a line each, and what to do about them."""
    first = found[0]
    mark = "[green]✓[/]" if first.repaired else "[red]✗[/]"
    times = f" ({len(found):,} times)" if len(found) > 1 else ""
    console.print(f"\n{mark} {first.tenant}  {first.says}{times}")
    for one in found[:MOST]:
        console.print(f"  [dim]{escape(one.resource)}[/]")
    if len(found) > MOST:
        console.print(f"  [dim]and {len(found) - MOST:,} more: soma reconcile --json[/]")
    console.print(f"  {'Put right.' if first.repaired else first.advice}")


def alike(findings: Iterable[Finding]) -> Iterable[Sequence[Finding]]:
    """Those of which the same is to be said."""
    found: dict[tuple[object, ...], list[Finding]] = {}
    for one in findings:
        found.setdefault((one.tenant, one.kind, one.event, one.says, one.repaired), []).append(one)
    return found.values()


def escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def counted(report: Report) -> str:
    return ", ".join(f"{number:,} {name if number != 1 else name[:-1]}" for name, number in report.compared.items())


def clock(time: Any) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def facts(report: Report) -> dict[str, Any]:
    from services.common.clock import rfc3339

    return {
        "since": rfc3339(report.span.since),
        "until": rfc3339(report.span.until),
        "compared": dict(report.compared),
        "skipped": report.skipped,
        "findings": [
            {
                "tenant": one.tenant,
                "kind": one.kind,
                "resource": one.resource,
                "event": one.event or None,
                "says": one.says,
                "repaired": one.repaired,
                "advice": None if one.repaired else one.advice,
            }
            for one in report.findings
        ],
    }
