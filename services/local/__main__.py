"""The `soma` command: the whole mesh on one machine."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.local.acts import acting
from services.local.commands.home import HOME, Data
from services.local.fault import Fault, of_disk

app = typer.Typer(
    name="soma",
    help="The whole mesh on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenant_app = typer.Typer(help="Whom the mesh serves.", no_args_is_help=True)
provider_app = typer.Typer(help="Whose models it may call.", no_args_is_help=True)
peer_app = typer.Typer(help="Whose programs may call it.", no_args_is_help=True)
audit_app = typer.Typer(help="What was done, and the proof of it.", no_args_is_help=True)
app.add_typer(tenant_app, name="tenant")
app.add_typer(provider_app, name="provider")
app.add_typer(peer_app, name="peer")
app.add_typer(audit_app, name="audit")
events_app = typer.Typer(help="What consumers of the event log could not handle, and replays.", no_args_is_help=True)
app.add_typer(events_app, name="events")

Tenant = Annotated[str, typer.Option(help="Whose tenant.")]
Person = Annotated[str, typer.Option(help="Who: member, auditor and admin are the demo accounts.")]


class Tier(StrEnum):
    """Where a model stands, from the best to the smallest."""

    PREMIUM = "premium"
    STANDARD = "standard"
    SLM = "slm"


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


@tenant_app.command("add")
def tenant_add(name: str, data: Data = HOME) -> None:
    """Make a tenant, or bring its tables up to date."""
    from services.local.commands import tenants

    with acting(data, "tenant.added", f"tenants/{name}", name):
        tenants.add(data, name)
    print(f"The tenant {name} is there.")


@provider_app.command("add")
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


@provider_app.command("list")
def provider_list(data: Data = HOME) -> None:
    """Show every provider's models, what a million tokens cost, and which can be called."""
    from services.local.commands import providers

    providers.show(data)


@provider_app.command("remove")
def provider_remove(name: str, data: Data = HOME) -> None:
    """Forget a provider and its key."""
    from services.local.commands import providers

    with acting(data, "provider.removed", f"providers/{name}"):
        print(providers.remove(data, name))


@peer_app.command("add")
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


@peer_app.command("list")
def peer_list(data: Data = HOME) -> None:
    """Show the trust domains whose programs may call."""
    from services.local.commands import peers

    peers.show(data)


@peer_app.command("remove")
def peer_remove(name: str, data: Data = HOME) -> None:
    """Refuse a trust domain's programs from now on."""
    from services.local.commands import peers

    with acting(data, "peer.removed", f"peers/{name}"):
        print(peers.remove(data, name))


@audit_app.command("export")
def audit_export(
    out: Annotated[Path, typer.Option(help="The file to write, such as acme.audit.zst.", resolve_path=True)],
    tenant: Tenant = "acme",
    from_index: Annotated[int, typer.Option(help="Begin with this event.", min=0)] = 0,
    data: Data = HOME,
) -> None:
    """Write a tenant's audit trail to a file that proves itself, offline (docs/audit-format.md)."""
    from services.local.commands import audit

    audit.export(data, tenant, out, from_index)


@audit_app.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(help="What soma audit export wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    head: Annotated[Path | None, typer.Option(help="A newer head, from soma audit heads: is the tail there?")] = None,
    key: Annotated[list[str] | None, typer.Option(help="A key that you trust. May be given more than once.")] = None,
) -> None:
    """Prove that nothing in the file was altered or left out, or say what was. Needs no mesh. Exit code 0 or 1."""
    from services.local.commands import audit

    raise typer.Exit(audit.verify(file, as_json, head, key or ()))


@audit_app.command("heads")
def audit_heads(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Print the newest signed head. Who keeps it can tell later whether something was taken away."""
    from services.local.commands import audit

    audit.heads(data, tenant)


@audit_app.command("key")
def audit_key(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Print the public key that signs the trail, for outsiders to pin."""
    from services.local.commands import audit

    audit.key(data, tenant)


@audit_app.command("rotate")
def audit_rotate(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Sign the trail with a new key from now on. The old one vouches for it."""
    from services.local.commands import audit

    audit.rotate(data, tenant)


@audit_app.command("forget")
def audit_forget(
    subject: Annotated[str, typer.Option(help="The person as their token names them, such as member@acme.")],
    tenant: Tenant = "acme",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = HOME,
) -> None:
    """Make who a person was, and what they wrote, unreadable in events, archives and the audit trail."""
    from services.local.commands import audit

    if not yes:
        print(audit.forgetting(tenant, subject))
        typer.confirm(f"Forget {subject}?", abort=True)
    audit.forget(data, tenant, subject)


@events_app.command("show")
def events_show(
    id: Annotated[str, typer.Argument(help="One event in full. All that are dead or wait without.")] = "",
    group: Annotated[str, typer.Option(help="Of one group alone, such as sealer.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data: Data = HOME,
) -> None:
    """Show the events that consumers could not handle: dead, or waiting to be tried again, and why."""
    from services.local.commands import events

    events.show(data, id, group, as_json)


@events_app.command("retry")
def events_retry(
    id: Annotated[str, typer.Argument(help="The event's id.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All dead ones of --group.")] = False,
    group: Annotated[str, typer.Option(help="Whose, when it is not clear from the id.")] = "",
    data: Data = HOME,
) -> None:
    """Try dead events as if for the first time, now. Those of one key go in order, but after what of their key has been
    handled since they died."""
    from services.local.commands import events

    print(events.retry(data, id, everything, group))


@events_app.command("drop")
def events_drop(
    id: Annotated[str, typer.Argument(help="The event's id.")],
    why: Annotated[str, typer.Option(help="For those who ask later.")],
    group: Annotated[str, typer.Option(help="Whose, when it is not clear from the id.")] = "",
    data: Data = HOME,
) -> None:
    """Never handle an event; later ones of its key go on. The log and the archive still have it."""
    from services.local.commands import events

    print(events.drop(data, id, group, why))


@events_app.command("replay")
def events_replay(
    topic: Annotated[str, typer.Option(help="Such as agent.messages.")],
    into: Annotated[str, typer.Option(help="The group that gets them.")],
    since: Annotated[str, typer.Option("--from", help="RFC 3339: the first of this time or later.")],
    until: Annotated[str, typer.Option("--to", help="RFC 3339: none of this time or later. Now without.")] = "",
    tenant: Annotated[str, typer.Option(help="Of one tenant alone.")] = "",
    data: Data = HOME,
) -> None:
    """Put the events that came into the log in a time to a group once more.

    A group that does not exist yet begins there: it gets the events of that time, and then all that came after it.

    A group that exists goes back: its marks of these events, and its letters, are taken away, so that its handler sees
    them again, in order, before it goes on. All else that it reads again on the way keeps its mark and is not seen. It
    may be running.

    What a handler did the first time is not undone. It must be idempotent by the event's id: an event that it sees
    twice must leave what seeing it once leaves, as the sealer's does. A SIEM is told again.
    """
    from services.local.commands import events

    print(events.replay(data, topic, since, until, tenant, into))


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
