"""What `soma audit verify` says: to people, and to programs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.common.clock import rfc3339
from services.common.trail.checkpoint import Checkpoint, Malformed, Note, encoded
from services.common.trail.signing import VerifierKey
from services.local.audit.verify import Known, Verdict
from services.local.audit.walk import text_of
from services.local.fault import Fault

MOST_BYTES = 16 * 1024


def known_of(head: Path | None, keys: Sequence[str]) -> Known:
    """What was given beside the file. Fault when it is not what it should be."""
    try:
        pins = [VerifierKey.parse(key.strip()) for key in keys]
    except Malformed as fault:
        raise Fault(f"--key: {fault} Print one with: soma audit key") from fault
    if not head:
        return Known(pins)
    try:
        with head.open("rb") as file:
            note = Note.parse(text_of(file.read(MOST_BYTES)))
        return Known(pins, note, Checkpoint.parse(note.text))
    except OSError as error:
        raise Fault(f"{head} cannot be read: {error.strerror}.") from error
    except ValueError as fault:
        raise Fault(f"--head: {head} holds no signed head. {fault} Print one with: soma audit heads") from fault


def show_json(verdict: Verdict, known: Known) -> None:
    finding, newest = verdict.finding, verdict.newest
    answer: dict[str, Any] = {
        "ok": finding is None,
        "tenant": verdict.tenant,
        "origin": verdict.origin,
        "first": verdict.first,
        "size": verdict.size,
        "heads": verdict.heads,
        "newest": {"size": newest.size, "root": encoded(newest.root), "time": rfc3339(newest.time)} if newest else None,
        "trusted": [key.line for key in verdict.trusted],
        "pinned": bool(known.pins),
        "finding": finding
        and {"kind": finding.kind, "index": finding.index, "through": finding.through, "text": finding.text},
    }
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def show(file: Path, verdict: Verdict, known: Known) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)

    def say(markup: str) -> None:
        console.print(markup, soft_wrap=True)

    if finding := verdict.finding:
        say(f"[bold red]✗ {finding.kind}[/]{escape(place(finding.index, finding.through))}: {escape(finding.text)}")
        return
    events = verdict.size - verdict.first
    what = f"event {verdict.first} is" if events == 1 else f"events {verdict.first} to {verdict.size - 1} are"
    say(f"[bold green]✓[/] [bold]{verdict.tenant}[/]: {what} as sealed, {heads(verdict)}")
    if newest := verdict.newest:
        say(f"  [dim]newest head  size {newest.size}, {rfc3339(newest.time)}, root {encoded(newest.root)}[/]")
    say(f"  [dim]signed with   {escape(verdict.trusted[-1].line)}[/]")
    if not known.pins:
        say(
            "\nThat key came with the file: whoever could write the file could choose it. Get the key from a place "
            "that you trust (soma audit key on the mesh, or /v1/audit/keys) and pin it:\n"
            f"  soma audit verify {shlex.quote(str(file))} --key {escape(verdict.trusted[-1].line)}"
        )
    if not known.head:
        say("[dim]Whether the tail was cut off shows only against a newer head: --head (soma audit heads).[/]")


def place(index: int | None, through: int | None) -> str:
    if index is None:
        return ""
    return f" at event {index}" if through in (index, None) else f" at events {index} to {through}"


def heads(verdict: Verdict) -> str:
    return "under 1 signed head" if verdict.heads == 1 else f"under {verdict.heads} signed heads"
