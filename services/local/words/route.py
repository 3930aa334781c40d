"""`soma route`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="How the router chooses: what it knows at first, and how good that is.", no_args_is_help=True)
Out = Annotated[Path, typer.Option(help="The file to write, such as prior.bin.", resolve_path=True)]


@app.command("train")
def route_train(
    files: Annotated[list[Path], typer.Argument(help="Rows of known outcomes, JSONL.")],
    out: Out,
) -> None:
    """Make the prior: what the router expects of models before a tenant has seen anything."""
    from services.local.commands import route

    print(route.train(files, out))


@app.command("eval")
def route_eval(
    train: Annotated[list[Path], typer.Option(help="Rows to learn from, JSONL. May be given more than once.")],
    test: Annotated[
        list[Path] | None, typer.Option(help="Rows to measure with. Without: five folds of --train, and their mean.")
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(help="For all rows to measure with.", min=0)] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture, SVG.", resolve_path=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure the router's own choices on rows whose outcomes are known. Needs no mesh, and spends nothing.

    A row is {"prompt": …, "task": …, "outcomes": {"<model>": {"score": 0 to 1, "cost_usd": …, "latency_s": …}}}; task,
    cost and latency may be missing. Rows with "weak" and "strong", true or false, are read too. Costs are those of all
    rows together.
    """
    from services.local.commands import route

    route.evaluate(train, test or (), budget_usd, plot, as_json)
