"""`soma tenant`."""

from __future__ import annotations

import typer

from services.local.acts import acting
from services.local.words.options import HOME, Data

app = typer.Typer(help="Whom the mesh serves.", no_args_is_help=True)


@app.command("add")
def tenant_add(name: str, data: Data = HOME) -> None:
    """Make a tenant, or bring its tables up to date."""
    from services.local.commands import tenants

    with acting(data, "tenant.added", f"tenants/{name}", name):
        tenants.add(data, name)
    print(f"The tenant {name} is there.")
