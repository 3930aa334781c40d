"""The edge's configuration for this mesh, written where its Envoy reads it."""

from __future__ import annotations

import os

from services.common.modes import ALLOWS
from services.local.edge.configuration import HOSTS, EdgeSettings, render
from services.local.fault import Fault
from services.local.https import Https
from services.local.ports import has_ipv6
from services.local.stack import GRPC, ROOMS, Stack
from services.local.workload.sds import put_https


def edge_settings(stack: Stack) -> EdgeSettings:
    """What the edge must know. Traces go where those of the rooms go."""
    return EdgeSettings(
        port=stack.ports["edge"],
        admin=stack.address("edge_admin"),
        rooms={room: stack.address(room) for room in ROOMS},
        issuer=stack.address("issuer"),
        issuer_url=stack.issuer,
        sds_dir=stack.secrets_for_edge,
        access_log=stack.logs / "access.log",
        cors_origins=tuple(os.environ.get("SOMA_ORIGINS", "").split()),
        ipv6=has_ipv6(stack.ports["edge"]) and has_ipv6(stack.ports[GRPC]),
        grpc_port=stack.ports[GRPC],
        https=stack.https is not None,
        hosts=hosts(stack.https),
        reflects=ALLOWS[stack.mode].reflection,
        otlp_url=os.environ.get("SOMA_OTLP_URL", ""),
        trace_ratio=float(os.environ.get("SOMA_TRACE_RATIO", "1")),
    )


def hosts(https: Https | None) -> tuple[str, ...]:
    """By which names the edge is called: this machine's, and those of the certificate."""
    names = https.names if https else ()
    return tuple(dict.fromkeys([*HOSTS, *(f"[{name}]" if ":" in name else name for name in names)]))


def write_edge(stack: Stack) -> None:
    """Write the file that the edge's command names."""
    if stack.https:
        put_https(stack.https.cert, stack.https.key, stack.secrets_for_edge)
    try:
        text = render(edge_settings(stack))
    except FileNotFoundError as error:
        raise Fault(f"{error.filename} is missing. Make it with: make gen") from error
    stack.edge_file.touch(mode=0o600)
    stack.edge_file.write_text(text)
