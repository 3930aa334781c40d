"""The edge's routes to rooms, and what a route may wish of the filters before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.local.edge.contract import Binding, Method

JSON = Mapping[str, Any]
STREAM_IDLE_S = 120
"""The silence after which a stream counts as dead: rooms send a heartbeat every 15 s."""
WHOLE_IDLE_S = 300
"""The same for a method that streams or answers in one piece, as it is asked: longer than any answer takes."""
API_KEY = "(?i:bearer) +sk-soma-.*"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def binding_routes(binding: Binding, unary_s: float) -> list[JSON]:
    """A binding's routes, by verb and path."""
    path: JSON = {"path": binding.exact_path} if binding.exact_path else {"safe_regex": {"regex": binding.path}}
    match = {**path, "headers": [exactly(":method", binding.verb)]}
    route = {"match": match, **to_room(binding.method, unary_s)}
    if binding.method.is_openai:
        route["typed_per_filter_config"] = {**route.get("typed_per_filter_config", {}), **lua("openai_errors")}
    return by_key_too(binding.method, route)


def openai_unknown(bound: Iterable[Binding]) -> list[JSON]:
    """What is asked for at the OpenAI paths, and no binding serves, is told so in OpenAI's shape."""
    paths = {binding.path.replace(".+", ".*"): None for binding in bound if binding.method.is_openai}
    filters = {**off("jwt_authn", "grpc_json_transcoder"), **lua("openai_errors")}
    return [
        {
            "match": {"safe_regex": {"regex": path}},
            "direct_response": {"status": 404},
            "typed_per_filter_config": filters,
        }
        for path in paths
    ]


def method_routes(method: Method, unary_s: float) -> list[JSON]:
    """A method's routes, by its name."""
    return by_key_too(method, {"match": in_grpc(f"/{method.service}/{method.name}"), **to_room(method, unary_s)})


def by_key_too(method: Method, route: JSON) -> list[JSON]:
    """Where an API key may stand for a token, what looks like one goes past the tokens' filter: the room knows it."""
    if not method.api_keys:
        return [route]
    shown = {"name": "authorization", "string_match": {"safe_regex": {"regex": API_KEY}}}
    match = {**route["match"], "headers": [*route["match"].get("headers", ()), shown]}
    filters = {**route.get("typed_per_filter_config", {}), **off("jwt_authn")}
    return [{**route, "match": match, "typed_per_filter_config": filters}, route]


def web_routes(method: Method, unary_s: float) -> list[JSON]:
    """A method's routes for gRPC-Web: its bytes pass the transcoder by, and its status is told as it is."""
    spoken = {"name": "content-type", "string_match": {"prefix": "application/grpc-web"}}
    match = {"path": f"/{method.service}/{method.name}", "headers": [exactly(":method", "POST"), spoken]}
    route = to_room(method, unary_s)
    filters = {**route.get("typed_per_filter_config", {}), **off("rest_alone", "grpc_json_transcoder")}
    return by_key_too(method, {"match": match, **route, "typed_per_filter_config": filters})


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
        "idle_timeout": f"{WHOLE_IDLE_S if method.streams and method.is_openai else STREAM_IDLE_S}s",
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


def lua(program: str) -> JSON:
    """A route's wish for one of the programs that edge.yaml names."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute"
    return {"envoy.filters.http.lua": {"@type": kind, "name": program}}


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
