"""`soma svid`: what a program of this machine shows at the edge's gRPC port. Never a room's identity."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.local.fault import Fault, of_disk
from services.local.files import write_whole
from services.local.stack import NAMESPACE, PARTS, TRUST_DOMAIN, load_stack

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def svid(home: Path, out: Path, name: str, hours: float) -> str:
    """Write key.pem, cert.pem and ca.pem, and say what they are good for. Fault for a name that is not a program's."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

    from services.local.workload.ca import LIVES, issue, lasts_until, load_roots, trusted
    from services.local.workload.federation import bundle_pem

    stack = load_stack(home)
    if not NAME.fullmatch(name):
        raise Fault(f"{name!r} cannot be a program's name: use small letters, digits and -, beginning with a letter.")
    if name in reserved():
        raise Fault(f"{name} is the name of a part of the mesh, whose identity no one else is given. Choose another.")
    now = datetime.now(UTC)
    roots = trusted(load_roots(stack.home / "authority"), LIVES, now)
    if not roots:
        raise Fault("The mesh has no authority yet. Start it once: soma up")
    life = min(now + timedelta(hours=hours), lasts_until(roots[-1], LIVES, now)) - now
    made = issue(roots[-1], f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{name}", "", life, now)
    key = load_der_private_key(made.key_der, password=None)
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(out / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        write_whole(out / "cert.pem", made.leaf.public_bytes(Encoding.PEM))
        write_whole(out / "ca.pem", bundle_pem(root.certificate for root in roots))
    except OSError as error:
        raise of_disk(error, out) from error
    return f"{made.spiffe_id} is in {out}, good until {made.ends.astimezone():%Y-%m-%d %H:%M}. Call {stack.grpc}"


def reserved() -> set[str]:
    """Every name that the contract gives rights to, and every name of a part."""
    from services.common.generated import GENERATED
    from services.local.edge.contract import workloads

    return {*workloads((GENERATED / "soma.binpb").read_bytes()), *PARTS}
