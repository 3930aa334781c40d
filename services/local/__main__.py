"""The `soma` command: the whole mesh on one machine."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.local.acts import acting
from services.local.fault import Fault, of_disk
from services.local.words import audit, events, key, peer, policy, provider, route, tenant
from services.local.words.options import HOME, Data, Person, Tenant

app = typer.Typer(
    name="soma",
    help="The whole mesh on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(tenant.app, name="tenant")
app.add_typer(provider.app, name="provider")
app.add_typer(peer.app, name="peer")
app.add_typer(audit.app, name="audit")
app.add_typer(events.app, name="events")
app.add_typer(route.app, name="route")
route.app.add_typer(policy.app, name="policy")
app.add_typer(key.app, name="key")


class Engine(StrEnum):
    """What keeps the event log."""

    POSTGRES = "postgres"
    KAFKA = "kafka"


@app.command()
def up(
    data: Data = HOME,
    port: Annotated[int | None, typer.Option(help="Of the edge. 8080, or that of last time.", min=1, max=65535)] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="For programs that speak gRPC. 8443, or that of last time.", min=1, max=65535)
    ] = None,
    https: Annotated[
        bool | None,
        typer.Option("--https/--http", help="With a certificate of this machine's; as last time without either."),
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="HTTPS with this certificate and chain.", resolve_path=True)] = None,
    key: Annotated[Path | None, typer.Option(help="The key of --cert.", resolve_path=True)] = None,
    log: Annotated[
        Engine | None, typer.Option(help="Who keeps the event log. As last time without; Postgres at first.")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C.")] = False,
) -> None:
    """Start the mesh, and return once every part is ready."""
    from services.local.commands import up

    up.up(data, up.Ways(port, grpc_port, https, cert, key, log), foreground)


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


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help="One part, such as agent. All of them without.")] = None,
    data: Data = HOME,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of each part to begin with.", min=0)] = 20,
) -> None:
    """Show what the parts wrote."""
    from services.local.commands import logs

    logs.logs(data, part, follow, lines)


@app.command()
def log(
    data: Data = HOME,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it, until Ctrl-C.")] = False,
) -> None:
    """Show the event log: topics, consumers and how far they are behind, sealed trails, the archive."""
    from services.local.commands import log

    log.log(data, as_json, watch)


@app.command()
def reconcile(
    tenant: Annotated[str, typer.Option(help="Of one tenant. Of all without.")] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Put right what follows from rows that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = HOME,
) -> None:
    """Hold the event log against Postgres, the archive and Valkey. Exits with 1 when something is not as told."""
    from services.local.commands import reconcile

    raise typer.Exit(reconcile.reconcile(data, tenant, repair, as_json))


@app.command()
def run(part: Annotated[str, typer.Argument(help="Such as agent or router.")], data: Data = HOME) -> None:
    """Run one part in this terminal, in place of the managed one, until it ends."""
    from services.local.commands import run

    raise typer.Exit(run.run(data, part))


@app.command()
def token(
    tenant: Tenant = "acme",
    person: Person = "member",
    role: Annotated[list[str] | None, typer.Option(help="May be given more than once.")] = None,
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1, max=86400)] = 3600,
    data: Data = HOME,
) -> None:
    """Print a person's token, and nothing else."""
    from services.local.commands import token

    print(token.token(data, tenant, person, role or (), ttl))


@app.command()
def chat(
    text: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    tenant: Tenant = "acme",
    person: Person = "member",
    conversation: Annotated[str, typer.Option(help="Go on with conversations/…")] = "",
    tier: Annotated[str, typer.Option(help="premium, standard or slm: the first that is tried.")] = "",
    data: Data = HOME,
) -> None:
    """Ask a question, and print the answer as it comes."""
    from services.local.commands import chat

    chat.chat(data, text, tenant, person, conversation, tier)


@app.command()
def topics(data: Data = HOME) -> None:
    """Make the event log's topics that are missing, and show all: partitions, retention, events."""
    from services.local.commands import topics

    topics.topics(data)


@app.command()
def svid(
    out: Annotated[Path, typer.Option(help="The folder for key.pem, cert.pem and ca.pem.", resolve_path=True)],
    name: Annotated[str, typer.Option(help="What the program is called.")] = "sdk",
    hours: Annotated[float, typer.Option(help="How long it is good for, at most.", min=0.01, max=24)] = 24,
    data: Data = HOME,
) -> None:
    """Give a program of this machine what it needs to call by gRPC."""
    from services.local.commands import svid

    with acting(data, "svid.issued", f"programs/{name}"):
        print(svid.svid(data, out, name, hours))


@app.command()
def bundle(
    as_json: Annotated[bool, typer.Option("--json", help="As a SPIFFE bundle; PEM without.")] = False,
    data: Data = HOME,
) -> None:
    """Print the roots by which another trust domain can trust this mesh."""
    from services.local.commands import peers

    print(peers.bundle(data, as_json))


@app.command()
def reset(data: Data = HOME, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Forget everything: conversations, tenants, keys."""
    from services.local.commands import tenants

    if not yes:
        typer.confirm(f"Forget everything in {data}?", abort=True)
    tenants.reset(data)
    print(f"Nothing is left in {data}.")


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
    except OSError as error:
        sys.stderr.write(f"{of_disk(error, Path.cwd())}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
