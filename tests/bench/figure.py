"""One measured figure, and whether it is what was aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


class Missing(Exception):  # noqa: N818 - what a machine lacks
    """A bench cannot be measured here. The text says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit. A goal is a least value, or with `at_most` a most one; without a goal it only tells."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def is_behind(self) -> bool:
        if self.goal is None:
            return False
        return self.value > self.goal if self.at_most else self.value < self.goal

    @property
    def aim(self) -> str:
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {shown(self.goal)}"

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "behind" if self.is_behind else "ok"


def shown(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(bench: str, figures: Sequence[Figure], console: Console) -> None:
    """One bench as rows of the table."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False, title=bench, title_justify="left")
    for column, width in {"name": 50, "figure": 7, "unit": 5, "goal": 7, "verdict": 6}.items():
        table.add_column(column, width=width, no_wrap=True, justify="right" if column == "figure" else "left")
    table.add_column("note", style="dim")
    for figure in figures:
        style = {"ok": "green", "behind": "red"}.get(figure.verdict, "")
        verdict = f"[{style}]{figure.verdict}[/]" if style else ""
        table.add_row(figure.name, shown(figure.value), figure.unit, figure.aim, verdict, figure.note)
    console.print(table)
    console.print()
