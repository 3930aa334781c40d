"""Other trust domains whose workloads may call: their bundles, read, checked and kept, and the map Envoy trusts by.

A bundle is PEM, or SPIFFE's JSON: a JWK set with a certificate (x5c) in each key of use x509-svid.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from services.common.lines import log
from services.local.files import write_whole

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
MOST_BYTES, MOST_ROOTS = 128 * 1024, 16
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

Roots = Sequence[x509.Certificate]


class BundleError(ValueError):
    """Why a bundle cannot be trusted, in a sentence."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A trust domain that is known under a name of ours."""

    name: str
    trust_domain: str
    roots: Roots


def read_bundle(content: bytes, trust_domain: str, now: datetime) -> Roots:
    """The roots of a trust domain, from PEM or JSON. Raises BundleError unless each can vouch for its workloads."""
    if len(content) > MOST_BYTES:
        raise BundleError(f"The bundle is larger than {MOST_BYTES // 1024} KiB.")
    try:
        roots = _of_json(content) if content.lstrip().startswith(b"{") else x509.load_pem_x509_certificates(content)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise BundleError("The bundle is neither PEM certificates nor a SPIFFE bundle in JSON.") from error
    if not 1 <= len(roots) <= MOST_ROOTS:
        raise BundleError(f"The bundle has {len(roots)} certificates; 1 to {MOST_ROOTS} can be taken.")
    for root in roots:
        _check(root, trust_domain, now)
    return roots


def _of_json(content: bytes) -> Roots:
    keys = [key for key in json.loads(content)["keys"] if key.get("use") == "x509-svid"]
    return [x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0], validate=True)) for key in keys]


def _check(root: x509.Certificate, trust_domain: str, now: datetime) -> None:
    if not may_sign(root):
        raise BundleError("The bundle has a certificate that is no CA's: give the trust domain's roots, not an SVID.")
    if root.not_valid_after_utc <= now:
        raise BundleError(
            f"A certificate of the bundle expired on {root.not_valid_after_utc:%Y-%m-%d}: ask for a new one."
        )
    ids = [uri for uri in uris_of(root) if uri.startswith("spiffe://")]
    if ids and f"spiffe://{trust_domain}" not in ids:
        raise BundleError(f"The bundle is that of {ids[0]}, not of spiffe://{trust_domain}.")


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's: it says so, and its key usage, if there is one, agrees."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid


def uris_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def load_peers(directory: Path) -> list[Peer]:
    """Those that are kept, by name. One whose file someone has broken is not trusted, and no reason to stop."""
    peers = []
    for path in sorted(directory.glob("*.json")):
        try:
            peers.append(_load(path))
        except (ValueError, KeyError, TypeError) as fault:
            log().error("a peer's file cannot be read", path=str(path), fault=str(fault))
    return peers


def keep_peer(directory: Path, peer: Peer) -> None:
    directory.mkdir(exist_ok=True, mode=0o700)
    kept = {"trust_domain": peer.trust_domain, **bundle_json(peer.roots)}
    write_whole(directory / f"{peer.name}.json", json.dumps(kept, indent=1).encode())


def drop_peer(directory: Path, name: str) -> None:
    (directory / f"{name}.json").unlink()


def _load(path: Path) -> Peer:
    kept = json.loads(path.read_bytes())
    return Peer(path.stem, kept["trust_domain"], _of_json(path.read_bytes()))


def trust_map(bundles: Mapping[str, Iterable[x509.Certificate]]) -> bytes:
    """Bundles by trust domain, as Envoy's SPIFFE validator reads them."""
    return json.dumps({"trust_domains": {name: bundle_json(roots) for name, roots in bundles.items()}}).encode()


def bundle_json(roots: Iterable[x509.Certificate]) -> dict[str, Any]:
    """A SPIFFE bundle."""
    return {"keys": [jwk(root) for root in roots]}


def bundle_pem(roots: Iterable[x509.Certificate]) -> bytes:
    return b"".join(root.public_bytes(Encoding.PEM) for root in roots)


def jwk(root: x509.Certificate) -> dict[str, Any]:
    """A root as a JSON Web Key that carries its certificate."""
    key = root.public_key()
    der = base64.b64encode(root.public_bytes(Encoding.DER)).decode()
    carried = {"use": "x509-svid", "x5c": [der]}
    if isinstance(key, ec.EllipticCurvePublicKey):
        numbers, size = key.public_numbers(), (key.key_size + 7) // 8
        point = {"x": _b64(numbers.x, size), "y": _b64(numbers.y, size)}
        return {"kty": "EC", "crv": CURVES.get(key.curve.name, key.curve.name), **point, **carried}
    if isinstance(key, rsa.RSAPublicKey):
        public = key.public_numbers()
        return {"kty": "RSA", "n": _b64(public.n), "e": _b64(public.e), **carried}
    raise BundleError("The bundle has a key that is neither RSA nor of an elliptic curve.")


def _b64(number: int, size: int | None = None) -> str:
    raw = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
