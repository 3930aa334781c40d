"""`soma provider`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.local.acts import acting
from services.local.words.options import HOME, Data, Tier

app = typer.Typer(help="Whose models it may call.", no_args_is_help=True)


@app.command("add")
def provider_add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and dashes. A known one wants its key alone.")],
    base_url: Annotated[str, typer.Option(help="Of an endpoint that speaks as OpenAI does: http://…/v1")] = "",
    key_env: Annotated[str, typer.Option(help="The variable of this terminal that holds the key.")] = "",
    model: Annotated[str, typer.Option(help="The provider's own name of the model.")] = "",
    tier: Annotated[Tier, typer.Option(help="Where the model stands.")] = Tier.STANDARD,
    price_in: Annotated[int | None, typer.Option(help="Micro-USD per million tokens of the prompt.", min=0)] = None,
    price_out: Annotated[int | None, typer.Option(help="Micro-USD per million tokens of the answer.", min=0)] = None,
    window: Annotated[int | None, typer.Option(help="Tokens that the model takes.", min=1)] = None,
    data: Data = HOME,
) -> None:
    """Let the router call a provider's model. The router sees it within seconds."""
    from services.local.commands import providers

    asked = providers.Asked(name, base_url, key_env, model, tier, price_in, price_out, window)
    with acting(data, "provider.added", f"providers/{name}"):
        print(providers.add(data, asked))


@app.command("list")
def provider_list(data: Data = HOME) -> None:
    """Show every provider's models, what a million tokens cost, and which can be called."""
    from services.local.commands import providers

    providers.show(data)


@app.command("remove")
def provider_remove(name: str, data: Data = HOME) -> None:
    """Forget a provider and its key."""
    from services.local.commands import providers

    with acting(data, "provider.removed", f"providers/{name}"):
        print(providers.remove(data, name))
