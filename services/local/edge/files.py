"""The edge's configuration for this mesh, written where its Envoy reads it."""

from __future__ import annotations

import os

from services.local.edge.configuration import EdgeSettings, render
from services.local.fault import Fault
from services.local.ports import has_ipv6
from services.local.stack import ROOMS, Stack


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
        ipv6=has_ipv6(stack.ports["edge"]),
        otlp_url=os.environ.get("SOMA_OTLP_URL", ""),
        trace_ratio=float(os.environ.get("SOMA_TRACE_RATIO", "1")),
    )


def write_edge(stack: Stack) -> None:
    """Write the file that the edge's command names."""
    try:
        text = render(edge_settings(stack))
    except FileNotFoundError as error:
        raise Fault(f"{error.filename} is missing. Make it with: make gen") from error
    stack.edge_file.touch(mode=0o600)
    stack.edge_file.write_text(text)
