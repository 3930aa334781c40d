"""`soma peer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.local.acts import acting
from services.local.words.options import HOME, Data

app = typer.Typer(help="Whose programs may call it.", no_args_is_help=True)


@app.command("add")
def peer_add(
    name: Annotated[str, typer.Argument(help="What we call it: small letters, digits and dashes.")],
    trust_domain: Annotated[str, typer.Option(help="Such as peer.example.")],
    bundle: Annotated[Path, typer.Option(help="Its roots, PEM or a SPIFFE bundle; - reads stdin.")],
    data: Data = HOME,
) -> None:
    """Let programs of another trust domain call by gRPC, or renew its roots."""
    from services.local.commands import peers

    with acting(data, "peer.added", f"peers/{name}"):
        print(peers.add(data, name, trust_domain, bundle))


@app.command("list")
def peer_list(data: Data = HOME) -> None:
    """Show the trust domains whose programs may call."""
    from services.local.commands import peers

    peers.show(data)


@app.command("remove")
def peer_remove(name: str, data: Data = HOME) -> None:
    """Refuse a trust domain's programs from now on."""
    from services.local.commands import peers

    with acting(data, "peer.removed", f"peers/{name}"):
        print(peers.remove(data, name))
