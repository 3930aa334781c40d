"""Where the edge's calls go, as Envoy clusters: how a room is found, spoken to and recognised."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
JSON = Mapping[str, Any]


def cluster(name: str, where: str, most: int) -> JSON:
    """One address, and at most so many calls at a time. An address by name is looked up again and again."""
    endpoint = {"endpoint": {"address": address(where)}}
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": 64}
    return {
        "name": name,
        "type": "STATIC" if is_fixed(where) else "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [limits]},
    }


def http2() -> JSON:
    """A room that stopped answering is noticed, and its calls end. Rooms cut whoever pings more than they allow."""
    options = {"connection_keepalive": {"interval": "12s", "timeout": "4s"}}
    protocol = {
        "@type": f"type.googleapis.com/{HTTP}",
        "explicit_http_config": {"http2_protocol_options": options},
    }
    return {"typed_extension_protocol_options": {HTTP: protocol}}


def mutual_tls(sds_dir: Path, spiffe_id: str, server_name: str) -> JSON:
    """The edge shows its SVID and accepts exactly one other. Both files may be replaced at any time."""
    context = {
        "@type": TLS,
        "sni": server_name,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret(sds_dir, "svid")],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": spiffe_id}}]
                },
                "validation_context_sds_secret_config": secret(sds_dir, "bundle"),
            },
        },
    }
    return transport(context)


def secret(sds_dir: Path, name: str) -> JSON:
    return {"name": name, "sds_config": watched(sds_dir, name)}


def watched(directory: Path, name: str) -> JSON:
    """A file of that directory, read anew whenever it is replaced."""
    source = {"path": str(directory / f"{name}.yaml"), "watched_directory": {"path": str(directory)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def collector(url: str) -> JSON:
    """The OTLP collector, by TLS when its URL says so."""
    where = urlsplit(url)
    secure = where.scheme == "https"
    found = cluster("otlp", f"{where.hostname}:{where.port or (443 if secure else 80)}", 64)
    if not secure:
        return found
    trusted: JSON = {"validation_context": {"system_root_certs": {}}}
    return {**found, **transport({"@type": TLS, "sni": where.hostname, "common_tls_context": trusted})}


def transport(context: JSON) -> JSON:
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def address(where: str) -> JSON:
    """`host:port`, or the path of a Unix socket, which is its owner's alone."""
    if where.startswith("/"):
        return {"pipe": {"path": where, "mode": 0o600}}
    host, _, port = where.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def is_fixed(where: str) -> bool:
    """Whether an address needs no name server."""
    if where.startswith("/"):
        return True
    try:
        ipaddress.ip_address(where.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
