"""How the edge's listeners speak TLS, and whom they believe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.local.edge.upstreams import secret

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
JSON = Mapping[str, Any]


def peers_tls(sds_dir: Path) -> JSON:
    """The edge's SVID, shown to who shows one of a trust domain in trust.json, checked by that domain's own roots.

    The file is read anew whenever it changes. No session is resumed: each connection is checked against it.
    """
    trusted = {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": f"{TLS}.SPIFFECertValidatorConfig",
            "trust_bundles": {"filename": str(sds_dir / "trust.json"), "watched_directory": {"path": str(sds_dir)}},
        },
    }
    return downstream({
        "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret(sds_dir, "svid")],
            "validation_context": {"custom_validator_config": trusted},
        },
    })  # fmt: skip


def https_tls(sds_dir: Path) -> JSON:
    """For browsers: HTTP/2, so that one connection carries all their streams, or HTTP/1.1."""
    return downstream({
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret(sds_dir, "https")],
        },
    })  # fmt: skip


def inspectors() -> list[JSON]:
    """What tells TLS from plain HTTP on one port."""
    kind = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    return [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": kind}}]


def to_https() -> JSON:
    """Who comes by plain HTTP is sent to the same place by HTTPS. Not for good: the next start may be without."""
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "redirect": {"https_redirect": True, "response_code": "TEMPORARY_REDIRECT"}}
    connections = {
        "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "server_header_transformation": "PASS_THROUGH",
        "request_headers_timeout": "10s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "plain", "domains": ["*"], "routes": [route]}]},
    }
    return {
        "filter_chain_match": {"transport_protocol": "raw_buffer"},
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}],
    }


def downstream(context: JSON) -> JSON:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": f"{TLS}.DownstreamTlsContext", **context},
    }
