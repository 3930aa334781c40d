"""The options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Option("--data", envvar="SOMA_DATA", help="The folder of the mesh.", show_default=True, resolve_path=True),
]
HOME = Path(".soma")
Tenant = Annotated[str, typer.Option(help="Whose tenant.")]
Person = Annotated[str, typer.Option(help="Who: member, auditor and admin are the demo accounts.")]


class Tier(StrEnum):
    """Where a model stands, from the best to the smallest."""

    PREMIUM = "premium"
    STANDARD = "standard"
    SLM = "slm"
