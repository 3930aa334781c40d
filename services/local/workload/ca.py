"""The certificates of one machine's mesh: roots, the SVIDs they sign, and when which root does what.

A root is added to the bundle first, signs only after a pause in which everyone has learnt of it, and is dropped when
nothing that an older one signed can still be in use. All of that follows from the roots' own dates and the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.local.files import write_whole

BACKDATE = timedelta(seconds=10)
"""Certificates begin a little earlier, for clocks that are a little late."""


@dataclass(frozen=True, slots=True)
class Root:
    """A self-signed certificate authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def made(self) -> datetime:
        return self.certificate.not_valid_before_utc + BACKDATE

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID: the key as PKCS#8 DER, and the leaf, which a root signed directly."""

    spiffe_id: str
    key_der: bytes
    leaf: x509.Certificate
    made: datetime

    @property
    def ends(self) -> datetime:
        return self.leaf.not_valid_after_utc

    @property
    def due(self) -> datetime:
        """When half its life is over: time for the next one."""
        return self.made + (self.ends - self.made) / 2


@dataclass(frozen=True, slots=True)
class Lives:
    """How long certificates are good for."""

    leaf: timedelta
    root: timedelta

    def __post_init__(self) -> None:
        if self.root < 4 * self.leaf:
            raise ValueError("A root must live at least four times as long as a leaf, or its leaves would outlive it.")

    @property
    def settle(self) -> timedelta:
        """How long a new root is known before it signs."""
        return self.leaf / 2


LIVES = Lives(leaf=timedelta(hours=1), root=timedelta(days=30))
"""What one machine's authority gives."""


def signer(roots: Sequence[Root], lives: Lives, now: datetime) -> Root | None:
    """The root that signs now: the newest that has settled, else the oldest that still can."""
    good = [root for root in sorted(roots, key=lambda root: root.made) if root.ends > now + lives.leaf / 2]
    settled = [root for root in good if root.made + lives.settle <= now]
    return settled[-1] if settled else next(iter(good), None)


def trusted(roots: Sequence[Root], lives: Lives, now: datetime) -> tuple[Root, ...]:
    """The roots of the bundle: without those that have ended or whose last leaf has."""
    signs = signer(roots, lives, now)
    over = signs is not None and signs.made + lives.settle + lives.leaf <= now
    return tuple(root for root in roots if root.ends > now and not (over and signs and root.made < signs.made))


def wants_root(roots: Sequence[Root], lives: Lives, now: datetime) -> bool:
    """Whether it is time to add a root: none can sign, or half the newest one's life is over."""
    return signer(roots, lives, now) is None or max(root.made for root in roots) + lives.root / 2 <= now


def lasts_until(root: Root, lives: Lives, now: datetime) -> datetime:
    """How long an SVID that the newest root signs, and today's bundle, are surely good: until the next root signs."""
    next_root = max(root.made + lives.root / 2, now)
    return min(next_root + lives.settle, root.ends)


def new_root(trust_domain: str, lives: Lives, now: datetime) -> Root:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    certificate = (
        _certificate(name, name, key.public_key(), now, now + lives.root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(_names(f"spiffe://{trust_domain}"), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Root(key, certificate)


def issue(
    root: Root, spiffe_id: str, dns: str, life: timedelta, now: datetime, also_called: Sequence[str] = ()
) -> Svid:
    """A leaf with one URI and its DNS names, and none in the subject: gRPC would take a name from there too.

    With an empty `dns` it is a client's alone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "soma")])
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if dns else [])]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    leaf = (
        _certificate(subject, root.certificate.subject, key.public_key(), now, min(now + life, root.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(_names(spiffe_id, *([dns] if dns else []), *also_called), critical=False)
        .add_extension(authority, critical=False)
        .sign(root.key, hashes.SHA256())
    )
    key_der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Svid(spiffe_id, key_der, leaf, now)


def load_roots(directory: Path) -> list[Root]:
    """The roots kept in a folder, oldest first."""
    return sorted((_load(path) for path in directory.glob("root-*.pem")), key=lambda root: root.made)


def keep_root(directory: Path, root: Root) -> None:
    """Write key and certificate to one file that only its owner may read."""
    pem = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_whole(_path(directory, root), pem + root.certificate.public_bytes(Encoding.PEM))


def drop_root(directory: Path, root: Root) -> None:
    _path(directory, root).unlink(missing_ok=True)


def _load(path: Path) -> Root:
    try:
        key_pem, mark, certificate_pem = path.read_bytes().partition(b"-----BEGIN CERTIFICATE")
        key = load_pem_private_key(key_pem, password=None)
        certificate = x509.load_pem_x509_certificate(mark + certificate_pem)
    except ValueError as fault:
        raise ValueError(f"{path} holds no root ({fault}). Move it away and start again.") from fault
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(
            f"{path} holds a key of a kind that this authority does not make. Move it away and start again."
        )
    return Root(key, certificate)


def _path(directory: Path, root: Root) -> Path:
    return directory / f"root-{root.certificate.serial_number:x}.pem"


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins.astimezone(UTC) - BACKDATE)
        .not_valid_after(ends.astimezone(UTC))
    )


def _names(uri: str, *dns: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *map(x509.DNSName, dns)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
