"""`soma route`: the prior from known outcomes, and how good the router's choices are on others."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.common.learning.gist import gist
from services.local.fault import Fault, of_disk

if TYPE_CHECKING:
    from services.local.minilm import MiniLM
    from services.router.evaluate.report import Report
    from services.router.evaluate.routed import Embedding, Result
    from services.router.evaluate.rows import Row

LOTS = 64
"""Prompts that are read between two words about it."""


def train(files: Sequence[Path], out: Path) -> str:
    """Write the prior; returns what is now true."""
    from services.common.learning.prior import Example, train

    rows = read(files)
    embeddings = embedded(rows, opened())
    examples = [Example(row.prompt, row.task, {m: o.score for m, o in row.outcomes.items()}) for row in rows]
    try:
        prior = train(examples, None if embeddings is None else [embeddings[row.prompt] for row in rows])
    except ValueError as error:
        raise Fault(str(error)) from error
    data = prior.to_bytes()
    written(out, data)
    return f"{out} knows {', '.join(prior.known)} from {len(rows):,} rows: {len(data):,} bytes."


def evaluate(
    train: Sequence[Path], test: Sequence[Path], budget_usd: float | None, plot: Path | None, as_json: bool
) -> None:
    """Print how good it is."""
    from services.router.evaluate.picture import picture

    report = measured(read(train), read(test) if test else None, budget_usd)
    if plot:
        written(plot, picture(report).encode())
    if as_json:
        sys.stdout.write(json.dumps(report.facts(), indent=2) + "\n")
    else:
        show(report)


def measured(known: Sequence[Row], test: Sequence[Row] | None, budget_usd: float | None) -> Report:
    from services.router.evaluate.report import Evaluation, Unfit
    from services.router.evaluate.rows import unseen

    fresh = None if test is None else unseen(known, test)
    if test is not None and fresh is not None and len(fresh) < len(test):
        say(f"{len(test) - len(fresh):,} rows of the test are left out: their prompts are in the training too.")
    model = opened()
    embeddings = embedded([*known, *(fresh or ())], model)
    embed = (lambda texts: list(model.encode([gist(text) for text in texts]))) if model else None
    evaluation = Evaluation(embeddings, embed, budget_usd)
    try:
        return evaluation.folds(known, say=say) if fresh is None else evaluation.on(known, fresh)
    except Unfit as error:
        raise Fault(str(error)) from error


def read(files: Sequence[Path]) -> list[Row]:
    from services.router.evaluate.rows import Unreadable, rows_of

    rows: list[Row] = []
    for file in files:
        try:
            rows += rows_of(file.read_text(encoding="utf-8").split("\n"), str(file))
        except Unreadable as error:
            raise Fault(str(error)) from error
        except UnicodeDecodeError as error:
            raise Fault(f"{file} is no text in UTF-8, from byte {error.start} on.") from error
        except OSError as error:
            raise Fault(f"{file} cannot be read: {error.strerror or error}.") from error
    if not rows:
        raise Fault(f"There are no rows in {', '.join(map(str, files))}.")
    return rows


def opened() -> MiniLM | None:
    """The embedder; without its files the router's own way of doing without is measured. numpy is told of its threads
    before it is loaded."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from services.local.minilm import open_minilm

    try:
        return open_minilm()
    except Fault as error:
        say(f"{error} Signals of the text alone are used.")
        return None


def embedded(rows: Sequence[Row], model: MiniLM | None) -> Mapping[str, Embedding] | None:
    if model is None:
        return None
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    found: dict[str, Embedding] = {}
    for begin in range(0, len(prompts), LOTS):
        lot = prompts[begin : begin + LOTS]
        found |= zip(lot, model.encode([gist(prompt) for prompt in lot]), strict=True)
        if sys.stderr.isatty():
            sys.stderr.write(f"\rreading prompts: {len(found):,} of {len(prompts):,} ")
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    return found


def show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("accuracy", justify="right")
    table.add_column("cost", justify="right")
    ours = "ours" if report.ours.cost_usd is not None else "ours, the better model each time"
    others = [("random", report.random), (ours, report.ours), ("oracle", report.oracle)]
    for name, one in [*report.models.items(), *others, *along(report)]:
        table.add_row(name, *cells(one), style="dim" if name.startswith("ours,") and name != ours else "")
    console = Console(highlight=False)
    console.print(table)
    console.print("\n".join(["", *sentences(report)]), soft_wrap=True)


def along(report: Report) -> list[tuple[str, Result]]:
    """Ours along the dial; along the strong calls when nobody said what a call costs."""
    from services.router.evaluate.routed import Result

    if report.ours.cost_usd is not None or not report.curve:
        return [(f"ours, dial at {at:g}", one) for at, one in report.along[::4]]
    weak, strong = sorted(one.accuracy for one in report.models.values())
    points = [(share, weak + report.curve[share] * (strong - weak)) for share in range(0, 101, 20)]
    return [(f"ours, {share} % strong calls", Result(accuracy, None)) for share, accuracy in points]


def sentences(report: Report) -> list[str]:
    lines = []
    if report.ours.cost_usd is None:
        lines.append(
            "Nobody said what calls cost, so nothing speaks for a weaker model: "
            "ours is then the strong model alone, or nearly so."
        )
    if report.apgr is not None and report.cpt50 is not None and report.cpt80 is not None:
        lines.append(
            f"APGR {report.apgr:.3f} (random 0.500), CPT(50 %) {report.cpt50:.0%}, CPT(80 %) {report.cpt80:.0%}"
        )
    bandit = report.bandit
    lines.append(
        f"A tenant that knows no model: regret {bandit.regret:.1f} after {bandit.decisions:,} decisions, "
        f"blindly {bandit.random_regret:.1f}; optimal "
        + " ".join(f"{share:.0%}" for share in bandit.optimal_share)
        + ", by tenths of the time"
    )
    lines.append(f"A decision takes {report.decision_ms[0]:.2f} ms at p50, {report.decision_ms[1]:.2f} ms at p95.")
    return lines


def cells(result: Result) -> tuple[str, str]:
    return f"{result.accuracy:.1%}", "unknown" if result.cost_usd is None else f"${result.cost_usd:,.4f}"


def written(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise of_disk(error, file) from error


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
