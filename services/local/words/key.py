"""`soma key`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.local.words.options import HOME, Data, Tenant

app = typer.Typer(help="API keys for the OpenAI paths.", no_args_is_help=True)


@app.command("create")
def key_create(
    person: Annotated[str, typer.Option(help="Whose calls they are: a subject, or a name of the tenant.")],
    tenant: Tenant = "acme",
    team: Annotated[str, typer.Option(help="Whose budget they fall under besides.")] = "",
    budget_usd: Annotated[str, typer.Option(help="What it may cost in all, in dollars, such as 2.50.")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="All that it may use. May be given more than once. Any without.")
    ] = None,
    title: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float, typer.Option(help="How long it is good for. For good without.", min=0, max=36500)] = 0,
    data: Data = HOME,
) -> None:
    """Make an API key and print it, and nothing else: it is not shown again."""
    from services.local.commands import keys

    print(keys.create(data, keys.Asked(tenant, person, team, budget_usd, model or (), title, days)))


@app.command("list")
def key_list(
    tenant: Tenant = "acme",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = HOME,
) -> None:
    """Show a tenant's keys, revoked ones too."""
    from services.local.commands import keys

    keys.show(data, tenant, as_json)


@app.command("revoke")
def key_revoke(
    key: Annotated[str, typer.Argument(help="Its name, keys/…")],
    tenant: Tenant = "acme",
    data: Data = HOME,
) -> None:
    """End a key. Within a second nobody takes it any more."""
    from services.local.commands import keys

    print(keys.revoke(data, tenant, key))
