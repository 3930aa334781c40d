"""`soma route policy`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.local.words.options import HOME, Data, Tenant

app = typer.Typer(help="Which version of a tenant's policy holds.", no_args_is_help=True)


@app.command("list")
def policy_list(
    tenant: Tenant = "acme",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = HOME,
) -> None:
    """Show the versions of a tenant's policy, newest first, and which one holds."""
    from services.local.commands import policies

    policies.show(data, tenant, as_json)


@app.command("activate")
def policy_activate(
    version: Annotated[str, typer.Argument(help="Such as policies/7, or 7.")],
    tenant: Tenant = "acme",
    data: Data = HOME,
) -> None:
    """Let a version hold. Within a second every router goes by it."""
    from services.local.commands import policies

    print(policies.activate(data, tenant, version))


@app.command("rollback")
def policy_rollback(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Let the version hold that held before. Twice goes further back."""
    from services.local.commands import policies

    print(policies.roll_back(data, tenant))
