"""`soma topics`: the topics of the event log, made where they are missing, and what they hold."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.local.at_database import at_database, log_url, opened
from services.local.stack import Stack, load_stack


def topics(home: Path) -> None:
    stack = load_stack(home)
    made, counts = at_database(look(stack))
    if made:
        sys.stdout.write(f"Made {', '.join(made)}.\n")
    show(counts, stack.log.engine)


async def look(stack: Stack) -> tuple[Sequence[str], Mapping[str, int]]:
    """The topics that were made now, and how many events each holds."""
    from services.common.log.engine import open_log
    from services.common.log.topics import TOPICS

    async with opened(stack) as db, open_log(log_url(stack), db, None) as log:
        made = await log.make_topics()
        held = {topic: (await log.ends(topic)).values() for topic in TOPICS}
    return made, {topic: sum(end - first for first, end in ends) for topic, ends in held.items()}


def show(counts: Mapping[str, int], engine: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from services.common.log.topics import TOPICS

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("topic", no_wrap=True)
    for column in ("partitions", "days", "events"):
        table.add_column(column, justify="right", no_wrap=True)
    for topic in TOPICS.values():
        table.add_row(topic.name, str(topic.parts), str(topic.days), f"{counts[topic.name]:,}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\n[dim]kept by {engine}[/]")
