"""The `soma` command: the whole mesh on one machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services.local.commands.home import HOME, Data
from services.local.fault import Fault

app = typer.Typer(
    name="soma",
    help="The whole mesh on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def up(
    data: Data = HOME,
    port: Annotated[int | None, typer.Option(help="Of the edge. 8080, or that of last time.", min=1, max=65535)] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C.")] = False,
) -> None:
    """Start the mesh, and return once every part is ready."""
    from services.local.commands import up

    up.up(data, port, foreground)


@app.command()
def down(data: Data = HOME) -> None:
    """End the mesh in order. What it knows stays."""
    from services.local.commands import up

    up.down(data)


@app.command()
def status(data: Data = HOME, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show each part: pid, port, memory, health, since when, restarts."""
    from services.local.commands import status

    status.status(data, as_json)


def main() -> None:
    """Errors are one sentence on stderr and exit code 1; wrong usage is 2."""
    try:
        app()
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
