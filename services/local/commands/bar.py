"""How far a long piece of work is, on a terminal; nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(says: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Tell it how much of the total is done, and how many events that was. It goes when the work ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("  {task.description}"), BarColumn(bar_width=32), TaskProgressColumn(),
        TextColumn("[dim]{task.fields[events]:,} events"), TimeRemainingColumn(compact=True),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(says, total=total, events=0)
        yield lambda done, events: progress.update(task, completed=done, events=events)
