"""The built page as routes of the edge: a direct answer for each file."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_BYTES = 16 * 1024 * 1024
TYPES = {
    ".js": "text/javascript",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}
CLEAN = {"/": "/index.html", "/docs": "/docs.html"}
"""Paths that stand for a file."""
CSP = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; frame-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE = {"content-security-policy": CSP, "permissions-policy": "camera=(), microphone=(), geolocation=()"}
PANE_CSP = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data: blob:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
SENSES = "accelerometer autoplay camera clipboard-read clipboard-write display-capture fullscreen geolocation"
SENSES += " gyroscope hid local-fonts magnetometer microphone midi payment publickey-credentials-get screen-wake-lock"
SENSES += " serial usb xr-spatial-tracking"
PANE = {
    "content-security-policy": PANE_CSP,
    "permissions-policy": ", ".join(f"{sense}=()" for sense in SENSES.split()),
    "connection-allowlist": "()",  # WebRTC, name look-ups and frames that navigate: no CSP covers them
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "unsafe-none",
    "x-dns-prefetch-control": "off",
}
"""Where the page shows HTML that a model wrote: of no origin, and with no way to speak to anyone but the page."""
OWN = {"/pane.html": PANE}
"""Files with headers of their own, in place of those that every page has."""
JSON = Mapping[str, Any]


def page_routes(directory: Path, openapi: Path, filters: JSON) -> list[JSON]:
    """A route for each file below `directory`, for the clean paths, and for openapi.json if it is there.

    What grows too large for a route is refused.
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else []
    named = {f"/{path.relative_to(directory).as_posix()}": path for path in files}
    named |= {clean: named[name] for clean, name in CLEAN.items() if name in named}
    named |= {"/openapi.json": openapi} if openapi.is_file() else {}
    for path in named.values():
        if path.stat().st_size > FILE_BYTES:
            raise ValueError(f"{path} is larger than 16 MiB: the edge does not serve it.")
    return [file_route(name, path, filters) for name, path in named.items()]


def file_route(name: str, path: Path, filters: JSON) -> JSON:
    headers = {"content-type": content_type(path), "cache-control": caching(name, path)}
    headers |= OWN.get(name, PAGE if path.suffix == ".html" else {})
    return {
        "match": {
            "path": name,
            "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}],
        },
        "direct_response": {"status": 200, "body": {"filename": str(path)}},
        "typed_per_filter_config": {**filters, **said_last(headers)},
    }


def said_last(headers: Mapping[str, str]) -> JSON:
    """The filter that sets what every answer carries sets these after it."""
    return {
        "envoy.filters.http.header_mutation": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            "mutations": {
                "response_mutations": [
                    {
                        "append": {
                            "header": {"key": key, "value": value},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    }
                    for key, value in headers.items()
                ]
            },
        }
    }


def content_type(path: Path) -> str:
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind.endswith("json") else kind


def caching(name: str, path: Path) -> str:
    """Files in assets/ carry their hash in the name. Pages, and what tells of the contract, are asked for each time."""
    if name.startswith("/assets/"):
        return "public, max-age=31536000, immutable"
    return "no-store" if path.suffix in (".html", ".json") else "public, max-age=3600"
