"""`soma status`: how each part is doing, asked for now."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from services.local import leftovers
from services.local.control import ask
from services.local.fault import Fault
from services.local.stack import LEAST_FREE_BYTES, control_socket_of, load_stack

STYLES = {"well": "green", "silent": "red", "restarting": "red", "by hand": "yellow"}


def status(home: Path, as_json: bool) -> None:
    """Print the table, or the JSON. Fault when the mesh is down."""
    load_stack(home)
    try:
        answer = ask(control_socket_of(home), {"do": "status"})
    except Fault as fault:
        left = len(leftovers.read(home / "run"))
        if left:
            raise Fault(
                f"The supervisor has died; {left} of its parts still run. Start afresh with: soma up"
            ) from fault
        raise
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    show(answer)


def show(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from services.local.commands.progress import ago

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("", "part", "health"):
        table.add_column(column, no_wrap=True)
    for column in ("pid", "port", "memory", "since", "restarts"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in answer["parts"]:
        style = STYLES.get(part["health"], "dim")
        table.add_row(
            f"[{style}]●[/]", f"[bold]{part['name']}[/]", f"[{style}]{part['health']}[/]", str(part["pid"] or "-"),
            str(part["port"]), size(part["memory_bytes"]), ago(part["since"]) if part["since"] else "-",
            str(part["restarts"] or ""),
        )  # fmt: skip
    total = answer["memory_bytes"] + sum(part["memory_bytes"] for part in answer["parts"])
    console = Console(highlight=False)
    console.print(
        f"\n[bold underline]{answer['url']}[/]   [dim]gRPC {answer['grpc']}   {answer['mode']}   {answer['home']}[/]\n",
        soft_wrap=True,
    )
    console.print(table)
    console.print(
        f"\n[dim]{size(total)} in all, {size(answer['memory_bytes'])} of it the supervisor (pid {answer['pid']})[/]"
    )
    if answer["disk_free_bytes"] < LEAST_FREE_BYTES:
        free = answer["disk_free_bytes"] / 1_048_576
        console.print(f"[red]The disk of {answer['home']} is nearly full: {free:.0f} MB are left.[/]", soft_wrap=True)
    if answer["missing"]:
        console.print(f"[red]No chat can be answered:[/] {answer['missing']}", soft_wrap=True)
    for part in answer["parts"]:
        if part["restarts"] and part["said"]:
            console.print(f"[dim]{part['name']} last {part['said']}[/]", soft_wrap=True)


def size(count: int) -> str:
    return f"{count / 1_048_576:.0f} MB" if count else "-"
