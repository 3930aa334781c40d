"""The parts of the mesh on a terminal while they come and go; one plain line a part where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

MARKS = {"ready": ("✓", "green"), "stopped": ("·", "dim"), "restarting": ("!", "red"), "waiting": ("·", "dim")}


class Progress:
    """Use as a context, and show it each snapshot."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, refresh_per_second=12.5, transient=False)
        self.spinner = Spinner("dots", style="cyan")
        self.said: dict[str, str] = {}

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.console.print()
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, snapshot: dict[str, Any], done: str) -> None:
        """Draw how the parts stand. `done` is the state in which a part needs no more attention."""
        if self.console.is_terminal:
            self.live.update(self.table(snapshot, done), refresh=True)
            return
        for part in snapshot["parts"]:
            if part["state"] != self.said.get(part["name"]) and part["state"] in (done, "restarting"):
                self.console.print(f"{part['name']:10} {part['state']:10} {detail(part)}".rstrip(), soft_wrap=True)
            self.said[part["name"]] = part["state"]

    def table(self, snapshot: dict[str, Any], done: str) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=3, justify="right")
        table.add_column(min_width=9, style="bold")
        table.add_column(min_width=34, style="dim")
        table.add_column(justify="right", min_width=9, no_wrap=True)
        for part in snapshot["parts"]:
            mark, style = MARKS.get(part["state"], ("", "cyan"))
            settled = part["state"] in (done, "restarting", "waiting", "stopped") and mark
            table.add_row(Text(mark, style) if settled else self.spinner, part["name"], part["says"], words(part))
        return table

    def ready(self, snapshot: dict[str, Any], took_s: float) -> None:
        """The last words of a start."""
        url, further = snapshot["url"], [f"gRPC for programs with an SVID (soma svid): {snapshot['grpc']}"]
        if snapshot["https_ca"]:
            further.append(f"Its certificate is of this machine: curl --cacert {snapshot['https_ca']} {url}/healthz")
        if not self.console.is_terminal:
            self.console.print("\n".join((f"Ready in {took_s:.1f} s: {url}", *further)), soft_wrap=True)
            return
        self.console.print(f"\n  [bold green]Ready[/] in {took_s:.1f} s   [bold underline]{url}[/]")
        for line in further:
            self.console.print(f"  [dim]{line}[/]", soft_wrap=True)
        self.console.print('  [dim]soma chat "Hello"   soma status   soma logs -f   soma down[/]\n')

    def note(self, sentence: str) -> None:
        self.console.print(sentence, soft_wrap=True)


def words(part: dict[str, Any]) -> Text:
    """The right-hand column."""
    match part["state"]:
        case "ready":
            return Text(f"{part['took_s']:.1f} s", "dim")
        case "restarting":
            return Text(f"{part['said']}; trying again", "red")
        case state:
            return Text(state, "dim")


def detail(part: dict[str, Any]) -> str:
    return f"{part['took_s']:.1f} s" if part["state"] == "ready" else str(part["said"])


def ago(moment: float) -> str:
    """How long ago, in the largest unit that says something: 4 s, 3 min, 2 h, 5 d."""
    seconds = max(0, time.time() - moment)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
