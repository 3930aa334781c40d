"""`soma audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.local.words.options import HOME, Data, Tenant

app = typer.Typer(help="What was done, and the proof of it.", no_args_is_help=True)


@app.command("export")
def audit_export(
    out: Annotated[Path, typer.Option(help="The file to write, such as acme.audit.zst.", resolve_path=True)],
    tenant: Tenant = "acme",
    from_index: Annotated[int, typer.Option(help="Begin with this event.", min=0)] = 0,
    data: Data = HOME,
) -> None:
    """Write a tenant's audit trail to a file that proves itself, offline (docs/audit-format.md)."""
    from services.local.commands import audit

    audit.export(data, tenant, out, from_index)


@app.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(help="What soma audit export wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    head: Annotated[Path | None, typer.Option(help="A newer head, from soma audit heads: is the tail there?")] = None,
    key: Annotated[list[str] | None, typer.Option(help="A key that you trust. May be given more than once.")] = None,
) -> None:
    """Prove that nothing in the file was altered or left out, or say what was. Needs no mesh. Exit code 0 or 1."""
    from services.local.commands import audit

    raise typer.Exit(audit.verify(file, as_json, head, key or ()))


@app.command("heads")
def audit_heads(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Print the newest signed head. Who keeps it can tell later whether something was taken away."""
    from services.local.commands import audit

    audit.heads(data, tenant)


@app.command("key")
def audit_key(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Print the public key that signs the trail, for outsiders to pin."""
    from services.local.commands import audit

    audit.key(data, tenant)


@app.command("rotate")
def audit_rotate(tenant: Tenant = "acme", data: Data = HOME) -> None:
    """Sign the trail with a new key from now on. The old one vouches for it."""
    from services.local.commands import audit

    audit.rotate(data, tenant)


@app.command("forget")
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
