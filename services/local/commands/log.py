"""`soma log`: the event log in one picture."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.local.at_database import at_database, log_url, opened
from services.local.commands.progress import ago
from services.local.stack import Stack, load_stack

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from services.local.log_picture import Picture

AGAIN_S = 2.0
LATE_S, ARCHIVE_LATE_S = 60.0, 2 * 3600.0
"""What waits for longer is red. An hour of the log is archived when it is over."""
ARCHIVER = "archiver"
TRAILS = 12
"""The rest is only counted."""


def log(home: Path, as_json: bool, watch: bool) -> None:
    """Print it once, or anew every two seconds until Ctrl-C. Fault when the mesh is down."""
    stack = load_stack(home)
    if as_json:
        at_database(follow(stack, watch, lambda now: write(now, whole=not watch)))
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if not (watch and console.is_terminal):
        at_database(follow(stack, watch, lambda now: console.print(drawn(now))))
        return
    with Live(console=console, auto_refresh=False) as live:
        at_database(follow(stack, watch, lambda now: live.update(drawn(now), refresh=True)))


async def follow(stack: Stack, watch: bool, show: Callable[[Picture], None]) -> None:
    from services.common.log.engine import open_log
    from services.local.log_picture import picture

    url = log_url(stack)
    engine = url.partition("://")[0] or "postgres"
    async with opened(stack) as db, open_log(url, db, None) as log:
        show(await picture(db, log, engine))
        while watch:
            await asyncio.sleep(AGAIN_S)
            show(await picture(db, log, engine))


def write(now: Picture, *, whole: bool) -> None:
    """Over many lines, or one a picture. Ends the command when nobody reads on."""
    try:
        sys.stdout.write(json.dumps(now, indent=2 if whole else None) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(141) from None


def drawn(now: Picture) -> RenderableType:
    from rich.console import Group

    return Group(*(piece for part in (topics(now), groups(now), trails(now), ends(now)) for piece in ("", part)), "")


def topics(now: Picture) -> Table:
    table = columns(f"{now['engine']} log", "partitions", "events", "last minute")
    for topic in now["topics"]:
        quiet = "" if topic["events"] else "dim"
        table.add_row(
            topic["topic"], str(topic["parts"]), number(topic["events"]), number(topic["last_minute"]), style=quiet
        )
    return table


def groups(now: Picture) -> Table:
    table = columns("group", "behind", "oldest", "retries", "dead", "reads")
    table.columns[-1].justify = "left"
    for group in now["groups"]:
        lag, topics = sum(group["lag"].values()), list(group["lag"])
        table.add_row(
            group["group"], number(lag), waits(group["oldest"], late_s(group)), number(group["retries"]),
            f"[red]{group['dead']:,}[/]" if group["dead"] else number(0),
            f"[dim]{topics[0] if len(topics) == 1 else f'{len(topics)} topics'}[/]",
        )  # fmt: skip
    return table


def trails(now: Picture) -> Table:
    table = columns("audit trail", "sealed", "head signed", "key")
    for trail in now["trails"][:TRAILS]:
        table.add_row(trail["tenant"], number(trail["size"]), f"{since(trail['time'])} ago", f"[dim]{trail['key']}[/]")
    if more := len(now["trails"]) - TRAILS:
        table.add_row(f"[dim]and {more} more[/]") if more > 0 else None
    return table


def ends(now: Picture) -> Table:
    """What comes before the log, and after it."""
    from rich.table import Table

    outbox, archive = now["outbox"], now["archive"]
    reader = next((group for group in now["groups"] if group["group"] == ARCHIVER), None)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=24)
    waiting = f"{number(outbox['events'])} wait, the oldest for {waits(outbox['oldest'])}"
    table.add_row("outbox", waiting if outbox["events"] else "nothing waits")
    if outbox["aside"]:
        table.add_row("", f"[red]{outbox['aside']:,} set aside, which no log takes[/]")
    size = f"{archive['objects']:,} objects, {archive['bytes'] / 1_048_576:.1f} MB"
    newest = f", the newest {since(archive['newest'])} ago" if archive["newest"] else ""
    late = f", behind by {waits(reader['oldest'], ARCHIVE_LATE_S)}" if reader and reader["oldest"] else ""
    table.add_row("archive", f"{size}{newest}{late}" if archive["objects"] else f"empty{late}")
    return table


def columns(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(first, no_wrap=True, min_width=24)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True, min_width=10)
    return table


def number(count: int) -> str:
    return f"{count:,}" if count else "[dim]0[/]"


def late_s(group: Picture) -> float:
    return ARCHIVE_LATE_S if group["group"] == ARCHIVER else LATE_S


def waits(oldest: str | None, late_s: float = LATE_S) -> str:
    """How long something has waited."""
    if oldest is None:
        return "[dim]-[/]"
    return f"[red]{since(oldest)}[/]" if time.time() - moment(oldest) > late_s else since(oldest)


def since(told: str) -> str:
    return ago(moment(told))


def moment(told: str) -> float:
    return datetime.fromisoformat(told).timestamp()
