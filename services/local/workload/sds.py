"""What Envoy reads of identities, renamed into place at each rotation: an SVID and its bundle as secrets (SDS), and the
roots of every trust domain whose workloads may call."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.common.lines import log
from services.local.files import write_whole
from services.local.workload.authority import LOOK_S, Authority
from services.local.workload.federation import Roots, load_peers, trust_map

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
CONFIG_TYPE = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
RULES_TYPE = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
MATCHING = "type.googleapis.com/envoy.extensions.matching"


async def write_sds(authority: Authority, room: str, directory: Path, peers: Path) -> None:
    """Keep Envoy's secrets of `room` in `directory` fresh, for ever, and whom it trusts."""
    while True:
        version = authority.version
        try:
            put_trust(authority, peers, directory)
            put_sds(authority, room, directory)
        except OSError as fault:
            log().error("envoy's secrets cannot be written yet", directory=str(directory), fault=str(fault))
            await asyncio.sleep(LOOK_S)
            continue
        await authority.changed(version)


def put_sds(authority: Authority, room: str, directory: Path) -> None:
    """Write svid.yaml ("svid") and bundle.yaml ("bundle"): the bundle first, so that Envoy trusts before it shows."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_pem, chain_pem, bundle_pem = authority.svid(room)
    trust = {"trusted_ca": _inline(bundle_pem)}
    shown = {"certificate_chain": _inline(chain_pem), "private_key": _inline(key_pem)}
    write_whole(directory / "bundle.yaml", _response(SECRET_TYPE, "bundle", {"validation_context": trust}))
    write_whole(directory / "svid.yaml", _response(SECRET_TYPE, "svid", {"tls_certificate": shown}))


def put_https(cert: Path, key: Path, directory: Path) -> None:
    """Write https.yaml ("https"): a certificate for browsers, which stays where it is and may be renewed there."""
    shown = {
        "certificate_chain": {"filename": str(cert)},
        "private_key": {"filename": str(key)},
        "watched_directory": {"path": str(cert.parent)},
    }
    write_whole(directory / "https.yaml", _response(SECRET_TYPE, "https", {"tls_certificate": shown}))


def put_trust(authority: Authority, peers: Path, directory: Path) -> None:
    """Write whom the edge trusts: our own roots, and those of each peer that is kept in `peers`. No peer speaks for us.

    trust.json decides on new connections, callers.yaml on calls: a peer that is taken away is refused on old ones too.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    bundles: dict[str, Roots] = {peer.trust_domain: peer.roots for peer in load_peers(peers)}
    bundles[authority.trust_domain] = [root.certificate for root in authority.bundle()]
    write_whole(directory / "trust.json", trust_map(bundles))
    write_whole(directory / "callers.yaml", _response(CONFIG_TYPE, "callers", {"typed_config": callers(bundles)}))


def callers(trust_domains: Iterable[str]) -> dict[str, object]:
    """Envoy's rule for calls: one SPIFFE ID, of one of these trust domains."""
    known = "|".join(map(re.escape, sorted(trust_domains)))
    one_id = {
        "input": {"name": "id", "typed_config": {"@type": f"{MATCHING}.common_inputs.ssl.v3.UriSanInput"}},
        "value_match": {"safe_regex": {"google_re2": {}, "regex": f"spiffe://({known})/[a-zA-Z0-9._/-]+"}},
    }
    let_in = {"predicate": {"single_predicate": one_id}, "on_match": _action("ALLOW")}
    return {"@type": RULES_TYPE, "matcher": {"matcher_list": {"matchers": [let_in]}, "on_no_match": _action("DENY")}}


def _action(deed: str) -> dict[str, object]:
    said = {"@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": deed, "action": deed}
    return {"action": {"name": deed, "typed_config": said}}


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode()}


def _response(kind: str, name: str, content: Mapping[str, object]) -> bytes:
    """A DiscoveryResponse with one resource. JSON, which is YAML too."""
    return json.dumps({"resources": [{"@type": kind, "name": name, **content}]}, indent=1).encode()
