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
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
JSON = Mapping[str, Any]


def page_routes(directory: Path, filters: JSON) -> list[JSON]:
    """A route for each file below `directory`, and `/` for index.html. What grows too large for a route is refused."""
    files = sorted(path for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else []
    for path in files:
        if path.stat().st_size > FILE_BYTES:
            raise ValueError(f"{path} is larger than 16 MiB: the edge does not serve it.")
    named = [(f"/{path.relative_to(directory).as_posix()}", path) for path in files]
    index = [("/", path) for name, path in named if name == "/index.html"]
    return [file_route(name, path, filters) for name, path in [*index, *named]]


def file_route(name: str, path: Path, filters: JSON) -> JSON:
    headers = {"content-type": content_type(path), "cache-control": caching(name)}
    if path.suffix == ".html":
        headers |= {"content-security-policy": POLICY, "permissions-policy": "camera=(), microphone=(), geolocation=()"}
    return {
        "match": {
            "path": name,
            "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}],
        },
        "direct_response": {"status": 200, "body": {"filename": str(path)}},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
        "typed_per_filter_config": filters,
    }


def content_type(path: Path) -> str:
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind.endswith("json") else kind


def caching(name: str) -> str:
    """Files in assets/ carry their hash in the name. The page itself is asked for each time."""
    if name.startswith("/assets/"):
        return "public, max-age=31536000, immutable"
    return "no-store" if name in ("/", "/index.html") else "public, max-age=3600"
