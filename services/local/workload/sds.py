"""An SVID as files that Envoy reads: secrets in its discovery format (SDS), renamed into place at each rotation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog

from services.local.files import write_whole
from services.local.workload.authority import LOOK_S, Authority

log = structlog.get_logger(__name__)

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name


async def write_sds(authority: Authority, room: str, directory: Path) -> None:
    """Keep Envoy's secrets of `room` in `directory` fresh, for ever: svid.yaml ("svid") and bundle.yaml ("bundle")."""
    while True:
        version = authority.version
        try:
            put_sds(authority, room, directory)
        except OSError as fault:
            log.error("envoy's secrets cannot be written yet", directory=str(directory), fault=str(fault))  # noqa: TRY400
            await asyncio.sleep(LOOK_S)
            continue
        await authority.changed(version)


def put_sds(authority: Authority, room: str, directory: Path) -> None:
    """Write both files once, each renamed into place: the bundle first, so that Envoy trusts before it shows."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_pem, chain_pem, bundle_pem = authority.svid(room)
    trust = {"trusted_ca": _inline(bundle_pem)}
    shown = {"certificate_chain": _inline(chain_pem), "private_key": _inline(key_pem)}
    write_whole(directory / "bundle.yaml", _secret("bundle", "validation_context", trust))
    write_whole(directory / "svid.yaml", _secret("svid", "tls_certificate", shown))


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode()}


def _secret(name: str, kind: str, value: dict[str, dict[str, str]]) -> bytes:
    """A DiscoveryResponse with one secret. JSON, which is YAML too."""
    resource = {"@type": SECRET_TYPE, "name": name, kind: value}
    return json.dumps({"resources": [resource]}, indent=1).encode()
