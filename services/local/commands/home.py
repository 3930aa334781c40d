"""The option that every command has: which mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Option("--data", envvar="SOMA_DATA", help="The folder of the mesh.", show_default=True, resolve_path=True),
]
HOME = Path(".soma")
