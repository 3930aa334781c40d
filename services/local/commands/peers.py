"""`soma peer`, `soma bundle`: which other trust domains' programs may call the edge, and what they trust us by."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.local.control import ask
from services.local.fault import Fault
from services.local.stack import TRUST_DOMAIN, Stack, control_socket_of, is_supervised, load_stack

if TYPE_CHECKING:
    from services.local.workload.federation import Peer, Roots


def add(home: Path, name: str, trust_domain: str, bundle: Path) -> str:
    """Trust a domain by its bundle, or by its new one; returns what is now true. Fault when that would be wrong."""
    from services.local.workload import federation

    stack = load_stack(home)
    if not federation.NAME.fullmatch(name):
        raise Fault(f"{name!r} cannot be a peer's name: use small letters, digits and -, beginning with a letter.")
    if not federation.TRUST_DOMAIN.fullmatch(trust_domain):
        raise Fault(f"{trust_domain!r} is no trust domain: it looks like peer.example, without spiffe://.")
    if trust_domain == TRUST_DOMAIN:
        raise Fault(f"{TRUST_DOMAIN} is this mesh's own trust domain. Nobody else can speak for it.")
    for known in federation.load_peers(stack.peers):
        if known.trust_domain == trust_domain and known.name != name:
            raise Fault(f"{trust_domain} is known as {known.name} already. Take that away first.")
    try:
        roots = federation.read_bundle(content_of(bundle), trust_domain, datetime.now(UTC))
    except federation.BundleError as error:
        raise Fault(str(error)) from error
    if {root.serial_number for root in roots} & {root.serial_number for root in own_roots(stack)}:
        raise Fault("The bundle holds roots of this mesh. Give the peer's bundle, not our own.")
    federation.keep_peer(stack.peers, federation.Peer(name, trust_domain, roots))
    return f"Programs of {trust_domain} may call {stack.grpc}, each call with a person's token.{taken_up(home)}"


def remove(home: Path, name: str) -> str:
    """Trust a domain no longer."""
    from services.local.workload import federation

    stack = load_stack(home)
    found = next((peer for peer in federation.load_peers(stack.peers) if peer.name == name), None)
    if found is None:
        raise Fault(f"There is no peer {name}. See: soma peer list")
    federation.drop_peer(stack.peers, name)
    return f"Programs of {found.trust_domain} are refused.{taken_up(home)}"


def show(home: Path) -> None:
    """A line a peer."""
    from services.local.workload.federation import load_peers

    peers = load_peers(load_stack(home).peers)
    for peer in peers:
        sys.stdout.write(f"{peer.name}  {peer.trust_domain}  {describe(peer)}\n")
    if not peers:
        sys.stdout.write("No other trust domain is known. Add one: soma peer add\n")


def describe(peer: Peer) -> str:
    last = max(root.not_valid_after_utc for root in peer.roots)
    count = f"{len(peer.roots)} root{'s' if len(peer.roots) > 1 else ''}"
    return f"{count}, {'expired' if last <= datetime.now(UTC) else 'good until'} {last:%Y-%m-%d}"


def bundle(home: Path, as_json: bool) -> str:
    """Our own roots, for a peer to trust: PEM, or a SPIFFE bundle."""
    from services.local.workload.federation import bundle_json, bundle_pem

    roots = own_roots(load_stack(home))
    return json.dumps(bundle_json(roots), indent=1) if as_json else bundle_pem(roots).decode().rstrip()


def own_roots(stack: Stack) -> Roots:
    from services.local.workload.ca import LIVES, load_roots, trusted

    roots = trusted(load_roots(stack.home / "authority"), LIVES, datetime.now(UTC))
    if not roots:
        raise Fault("The mesh has no authority yet. Start it once: soma up")
    return [root.certificate for root in roots]


def content_of(path: Path) -> bytes:
    """What a file holds, or stdin for -, as far as a bundle may go."""
    from services.local.workload.federation import MOST_BYTES

    if str(path) == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Fault(f"{path} cannot be read: {error.strerror}.") from error


def taken_up(home: Path) -> str:
    """Let a running mesh know. One that is down reads it when it starts."""
    if not is_supervised(home):
        return " It holds from the next `soma up`."
    ask(control_socket_of(home), {"do": "peers"})
    return ""
