"""The edge's routes to rooms, and what a route may wish of the filters before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.local.edge.contract import Binding, Method

JSON = Mapping[str, Any]
STREAM_IDLE_S = 120
"""The silence after which a stream counts as dead: rooms send a heartbeat every 15 s."""
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def binding_route(binding: Binding, unary_s: float) -> JSON:
    """A binding's route, by verb and path."""
    match = {"safe_regex": {"regex": binding.path}, "headers": [exactly(":method", binding.verb)]}
    return {"match": match, **to_room(binding.method, unary_s)}


def method_route(method: Method, unary_s: float) -> JSON:
    """A method's route, by its name."""
    return {"match": in_grpc(f"/{method.service}/{method.name}"), **to_room(method, unary_s)}


def web_route(method: Method, unary_s: float) -> JSON:
    """A method's route for gRPC-Web: its bytes pass the transcoder by, and its status is told as it is."""
    spoken = {"name": "content-type", "string_match": {"prefix": "application/grpc-web"}}
    match = {"path": f"/{method.service}/{method.name}", "headers": [exactly(":method", "POST"), spoken]}
    route = to_room(method, unary_s)
    filters = {**route.get("typed_per_filter_config", {}), **off("rest_alone", "grpc_json_transcoder")}
    return {"match": match, **route, "typed_per_filter_config": filters}


def reflection_routes(room: str) -> list[JSON]:
    """What the contract is, asked of one room for all. No token is needed to read it."""
    filters = off("jwt_authn", "buffer")
    route = {"cluster": room, "timeout": "0s", "idle_timeout": f"{STREAM_IDLE_S}s"}
    return [
        {"match": in_grpc(f"/{service}/ServerReflectionInfo"), "route": route, "typed_per_filter_config": filters}
        for service in REFLECTION
    ]


def in_grpc(path: str) -> JSON:
    return {"path": path, "grpc": {}}


def to_room(method: Method, unary_s: float) -> JSON:
    """Only what surely never reached the room is tried again."""
    route: dict[str, Any] = {
        "cluster": method.room,
        "timeout": "0s" if method.streams else f"{unary_s}s",
        "idle_timeout": f"{STREAM_IDLE_S}s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"},
        },
    }
    return {"route": route} | ({"typed_per_filter_config": off("jwt_authn")} if method.public else {})


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
            "allow_headers": "authorization, content-type, traceparent, x-grpc-web, x-user-agent",
            "expose_headers": "grpc-status, grpc-message, grpc-status-details-bin",
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
