"""`soma provider`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from services.local.acts import acting
from services.local.words.options import HOME, Data, Tier


class Kind(StrEnum):
    """How a provider is spoken to."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    LITELLM = "litellm"


app = typer.Typer(help="Whose models it may call.", no_args_is_help=True)


@app.command("add")
def provider_add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and dashes. A known one wants its key alone.")],
    base_url: Annotated[str, typer.Option(help="Where it is: http://…/v1")] = "",
    kind: Annotated[
        Kind, typer.Option(help="How it is spoken to: litellm knows those that the others do not.")
    ] = Kind.OPENAI,
    litellm: Annotated[str, typer.Option(help="Its name at litellm, where that is another one.")] = "",
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

    asked = providers.Asked(name, base_url, key_env, model, tier, price_in, price_out, window, kind.value, litellm)
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
