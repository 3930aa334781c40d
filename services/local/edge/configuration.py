"""Envoy's configuration, from the template in mesh/envoy and the contract's descriptor set. Starts nothing.

The routes are the contract's: one for each HTTP binding of a method that the edge may call, to the room that serves it,
with a person's token unless the method is public, without a time limit where it streams. What no method binds is 404.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.local.edge.contract import Binding, bindings, services_of
from services.local.edge.page_routes import page_routes
from services.local.edge.refusals import mappers
from services.local.edge.upstreams import address, cluster, collector, http2, mutual_tls

ROOT = Path(__file__).resolve().parents[3]
JSON = Mapping[str, Any]
STREAM_IDLE_S = 120
"""The silence after which a stream counts as dead: rooms send a heartbeat every 15 s."""


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
    """Holds svid.yaml (secret `svid`) and bundle.yaml (secret `bundle`). They must be there before Envoy starts."""
    access_log: Path
    descriptor: Path = ROOT / "gen/soma.binpb"
    web_dir: Path = ROOT / "gen/web"
    """The built page: each file becomes a route. Missing: no page."""
    template: Path = ROOT / "mesh/envoy/edge.yaml"
    audience: str = "soma"
    trust_domain: str = "soma.local"
    namespace: str = "soma"
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    """The names under which the edge is called."""
    cors_origins: tuple[str, ...] = ()
    ipv6: bool = False
    max_streams: int = 4096
    unary_s: float = 15
    """How long an answer that is no stream may take."""
    otlp_url: str = ""
    """Where spans go by OTLP over HTTP. Empty: a trace still begins here, and its first span is dropped."""
    trace_ratio: float = 1.0


def render(settings: EdgeSettings) -> str:
    """The whole configuration, as YAML."""
    descriptor = settings.descriptor.read_bytes()
    bound = [binding for binding in bindings(descriptor) if binding.room in settings.rooms]
    values: dict[str, object] = {
        "admin": address(settings.admin),
        "port": settings.port,
        "more_addresses": [{"address": address(f"[::1]:{settings.port}")}] if settings.ipv6 else [],
        "tracing": tracing(settings),
        "access_log": str(settings.access_log),
        "issuer": settings.issuer_url,
        "audience": settings.audience,
        "jwks_url": f"http://issuer{urlsplit(settings.issuer_url).path}/jwks",
        "descriptor": str(settings.descriptor),
        "services": services_of(bound),
        "hosts": list(settings.hosts),
        "cors": cors(settings.cors_origins),
        "bare": off("header_mutation", "jwt_authn", "grpc_json_transcoder"),
        "no_token_no_grpc": off("jwt_authn", "grpc_json_transcoder"),
    }
    lists = {
        "mappers": mappers(),
        "preflight": preflights(settings.cors_origins),
        "page": page_routes(settings.web_dir, off("jwt_authn", "grpc_json_transcoder")),
        "rooms": [room_route(binding, settings.unary_s) for binding in bound],
        "clusters": list(clusters(settings, sorted({binding.room for binding in bound}))),
    }
    return fill(settings.template.read_text(), values, lists)


def fill(template: str, values: Mapping[str, object], lists: Mapping[str, list[JSON]]) -> str:
    """Put JSON, which is YAML, in the places of ${name}; an item a line in those of ${name_list}."""

    def items(found: re.Match[str]) -> str:
        return "\n".join(f"{found[1]}- {json.dumps(item)}" for item in lists[found[2]])

    text = re.sub(r"^( *)\$\{(\w+)_list\}$", items, template, flags=re.MULTILINE)
    return re.sub(r"\$\{(\w+)\}", lambda found: json.dumps(values[found[1]]), text)


def room_route(binding: Binding, unary_s: float) -> JSON:
    """A binding's route. Only what surely never reached the room is tried again."""
    route: dict[str, Any] = {
        "cluster": binding.room,
        "timeout": "0s" if binding.streams else f"{unary_s}s",
        "idle_timeout": f"{STREAM_IDLE_S}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"},
        },
    }
    match = {"safe_regex": {"regex": binding.path}, "headers": [exactly(":method", binding.verb)]}
    return {"match": match, "route": route} | ({"typed_per_filter_config": off("jwt_authn")} if binding.public else {})


def off(*filters: str) -> JSON:
    """A route's wish to go without these filters."""
    disabled = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return {f"envoy.filters.http.{name}": disabled for name in filters}


def cors(origins: tuple[str, ...]) -> JSON:
    """Which other origins' pages may call. None: nothing is said, so browsers let none."""
    if not origins:
        return {}
    return {
        "envoy.filters.http.cors": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [{"exact": origin} for origin in origins],
            "allow_methods": "GET, POST, PATCH, DELETE",
            "allow_headers": "authorization, content-type, traceparent",
            "max_age": "600",
        }
    }


def preflights(origins: tuple[str, ...]) -> list[JSON]:
    """The CORS filter answers on routes that lead somewhere; for these it always answers before they do."""
    asks = {"name": "access-control-request-method", "present_match": True}
    return [
        {
            "match": {
                "prefix": "/",
                "headers": [exactly(":method", "OPTIONS"), exactly("origin", origin), asks],
            },
            "route": {"cluster": "agent"},
        }
        for origin in origins
    ]


def exactly(name: str, value: str) -> JSON:
    return {"name": name, "string_match": {"exact": value}}


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
