"""Envoy's configuration, from the template in mesh/envoy and the contract's descriptor set. Starts nothing.

The routes are the contract's: one for each HTTP binding of a method that the edge may call, to the room that serves it,
with a person's token unless the method is public, without a time limit where it streams. What no method binds is 404.
Programs with an SVID have a listener of their own, where each of these methods is called by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.common.generated import GENERATED
from services.local.edge.contract import Method, bindings, methods, services_of
from services.local.edge.listeners import https_tls, inspectors, peers_tls, to_https
from services.local.edge.openai_errors import openai_errors
from services.local.edge.page_routes import page_routes
from services.local.edge.refusals import grpc_mappers, mappers, web_mappers
from services.local.edge.routes import (
    binding_routes,
    cors,
    method_routes,
    off,
    openai_unknown,
    preflights,
    reflection_routes,
    web_routes,
)  # fmt: skip
from services.local.edge.upstreams import address, cluster, collector, http2, mutual_tls, watched

ROOT = Path(__file__).resolve().parents[3]
JSON = Mapping[str, Any]
PEERS = "${peers}\n"
HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What differs from machine to machine. Addresses are `host:port`, or the path of a Unix socket."""

    port: int
    admin: str
    rooms: Mapping[str, str]
    """Where each room listens. What the contract binds to other rooms is not served."""
    issuer: str
    """Where the issuer listens."""
    issuer_url: str
    """`iss` of people's tokens."""
    sds_dir: Path
    """What workload/sds.py writes: our SVID and bundle, and whom the peers' listener trusts. Before Envoy starts."""
    access_log: Path
    descriptor: Path = GENERATED / "soma.binpb"
    web_dir: Path = GENERATED / "web"
    """The built page: each file becomes a route. Missing: no page."""
    openapi: Path = GENERATED / "openapi.json"
    templates: Path = ROOT / "mesh/envoy"
    """edge.yaml, the peers' listener in peers.yaml, and openai_errors.lua."""
    audience: str = "soma"
    trust_domain: str = "soma.local"
    namespace: str = "soma"
    hosts: tuple[str, ...] = HOSTS
    """The names under which the edge is called."""
    cors_origins: tuple[str, ...] = ()
    ipv6: bool = False
    https: bool = False
    """Whether browsers come by HTTPS, with the certificate of https.yaml (secret `https`) in sds_dir."""
    grpc_port: int | None = None
    """Of the listener for programs that speak gRPC. None: there is none."""
    connection_age_s: float = 900
    """How long a program's connection takes new calls. A quarter of an SVID's life, as with the rooms."""
    reflects: bool = False
    """Whether rooms tell the contract by reflection, to those who are let in."""
    max_streams: int = 4096
    unary_s: float = 15
    """How long an answer that is no stream may take."""
    otlp_url: str = ""
    """Where spans go by OTLP over HTTP. Empty: a trace still begins here, and its first span is dropped."""
    trace_ratio: float = 1.0


def render(settings: EdgeSettings) -> str:
    """The whole configuration, as YAML."""
    descriptor = settings.descriptor.read_bytes()
    bound = [binding for binding in bindings(descriptor) if binding.method.room in settings.rooms]
    called = [method for method in methods(descriptor) if method.room in settings.rooms]
    values: dict[str, object] = {
        "admin": address(settings.admin),
        "port": settings.port,
        "more_addresses": on_ipv6(settings.port, settings.ipv6),
        "inspectors": inspectors() if settings.https else [],
        "tls_match": {"transport_protocol": "tls"} if settings.https else None,
        "tls": https_tls(settings.sds_dir) if settings.https else None,
        "tracing": tracing(settings),
        "access_log": str(settings.access_log),
        "issuer": settings.issuer_url,
        "audience": settings.audience,
        "jwks_url": f"http://issuer{urlsplit(settings.issuer_url).path}/jwks",
        "descriptor": str(settings.descriptor),
        "services": services_of(bound),
        "hosts": list(settings.hosts),
        "cors": cors(settings.cors_origins),
        "openai_errors": openai_errors(settings.templates / "openai_errors.lua"),
        "bare": off("rest_alone", "jwt_authn", "grpc_json_transcoder"),
        "no_token_no_grpc": off("jwt_authn", "grpc_json_transcoder"),
    }
    lists = {
        "plain": [to_https()] if settings.https else [],
        "mappers": [*web_mappers(), *mappers()],
        "grpc_web": [route for method in called for route in web_routes(method, settings.unary_s)],
        "preflight": preflights(settings.cors_origins),
        "page": page_routes(settings.web_dir, settings.openapi, off("jwt_authn", "grpc_json_transcoder")),
        "rooms": [*(route for b in bound for route in binding_routes(b, settings.unary_s)), *openai_unknown(bound)],
        "clusters": list(clusters(settings, sorted({binding.method.room for binding in bound}))),
    }
    edge = (settings.templates / "edge.yaml").read_text()
    return fill(edge.replace(PEERS, peers(settings, called)), values, lists)


def peers(settings: EdgeSettings, called: list[Method]) -> str:
    """The peers' listener, which names what edge.yaml has marked."""
    if settings.grpc_port is None:
        return ""
    reflection = reflection_routes(called[0].room) if settings.reflects and called else []
    values: dict[str, object] = {
        "grpc_port": settings.grpc_port,
        "more_grpc_addresses": on_ipv6(settings.grpc_port, settings.ipv6),
        "peers_tls": peers_tls(settings.sds_dir),
        "connection_age": f"{settings.connection_age_s}s",
        "callers": watched(settings.sds_dir, "callers"),
        "no_token": off("jwt_authn"),
    }
    lists = {
        "grpc_mappers": grpc_mappers(),
        "methods": [*(route for method in called for route in method_routes(method, settings.unary_s)), *reflection],
    }
    return fill((settings.templates / "peers.yaml").read_text(), values, lists)


def on_ipv6(port: int, there: bool) -> list[JSON]:
    return [{"address": address(f"[::1]:{port}")}] if there else []


def fill(template: str, values: Mapping[str, object], lists: Mapping[str, list[JSON]]) -> str:
    """Put JSON, which is YAML, in the places of ${name}; an item a line in those of ${name_list}."""

    def items(found: re.Match[str]) -> str:
        return "\n".join(f"{found[1]}- {json.dumps(item)}" for item in lists[found[2]])

    text = re.sub(r"^( *)\$\{(\w+)_list\}$", items, template, flags=re.MULTILINE)
    return re.sub(r"\$\{(\w+)\}", lambda found: json.dumps(values[found[1]]), text)


def tracing(settings: EdgeSettings) -> JSON:
    """A trace begins here, or goes on from the caller's traceparent."""
    uri = {"uri": f"{settings.otlp_url.rstrip('/')}/v1/traces", "cluster": "otlp", "timeout": "1s"}
    nowhere = {"grpc_service": {"envoy_grpc": {"cluster_name": "otlp"}}}
    exporter = {"http_service": {"http_uri": uri}} if settings.otlp_url else nowhere
    return {
        "random_sampling": {"value": settings.trace_ratio * 100},
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "edge",
                **exporter,
            },
        },
    }


def clusters(settings: EdgeSettings, rooms: list[str]) -> Iterator[JSON]:
    """Where calls go: the rooms by mTLS, the issuer and the collector as they are."""
    for room in rooms:
        spiffe_id = f"spiffe://{settings.trust_domain}/ns/{settings.namespace}/sa/{room}"
        secured = mutual_tls(settings.sds_dir, spiffe_id, f"{room}.{settings.trust_domain}")
        yield {**cluster(room, settings.rooms[room], settings.max_streams), **secured, **http2()}
    yield cluster("issuer", settings.issuer, settings.max_streams)
    yield collector(settings.otlp_url) if settings.otlp_url else {"name": "otlp", "type": "STATIC"}
