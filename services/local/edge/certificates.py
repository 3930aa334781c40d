"""The edge's certificate for HTTPS: one that was given, looked at before it is used, or one made on this machine.

The CA of this machine can vouch for this machine alone: its own certificate says so, and whoever trusts it can see it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.local.fault import Fault
from services.local.files import write_whole

HERE = ("localhost", "127.0.0.1", "::1")
CA_LIFE, LEAF_LIFE, RENEW_BEFORE = timedelta(days=3650), timedelta(days=397), timedelta(days=30)
BACKDATE = timedelta(minutes=5)
ADVICE = "Give another with --cert and --key, or go without: soma up --http"


def look_at(cert: Path, key: Path) -> tuple[str, ...]:
    """The names that a given certificate holds for. Fault unless it is good now, fits its key and names a host."""
    chain, public = _read_chain(cert), _read_key(key)
    leaf, now = chain[0], datetime.now(UTC)
    if _spki(leaf.public_key()) != public:
        raise Fault(f"The key {key} is not the one of the certificate {cert}. {ADVICE}")
    if leaf.not_valid_after_utc <= now:
        raise Fault(f"The certificate {cert} expired on {leaf.not_valid_after_utc:%Y-%m-%d}. {ADVICE}")
    if leaf.not_valid_before_utc > now:
        raise Fault(f"The certificate {cert} is good from {leaf.not_valid_before_utc:%Y-%m-%d} only. {ADVICE}")
    names = names_of(leaf)
    if not names:
        raise Fault(f"The certificate {cert} names no host that it holds for. {ADVICE}")
    return names


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses; localhost first, then what is no wildcard."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    hosts = [name for name in names if not name.startswith("*")]
    ordered = sorted(hosts, key=lambda name: (name != "localhost", hosts.index(name)))
    return (*ordered, *(name for name in names if name not in hosts)) if ordered else ()


def make(folder: Path) -> tuple[str, ...]:
    """Keep cert.pem, key.pem and ca.pem in `folder`, made when there are none, or when their end is near. Returns the
    names that the certificate holds for."""
    folder.mkdir(exist_ok=True, mode=0o700)
    now = datetime.now(UTC)
    if not _lasts(folder / "cert.pem", now) or not _lasts(folder / "ca.pem", now):
        ca_key, ca = _authority(folder, now)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(ca, ca_key, key.public_key(), now)
        write_whole(folder / "key.pem", _pem(key))
        write_whole(folder / "cert.pem", leaf.public_bytes(Encoding.PEM))
    return HERE


def _authority(folder: Path, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    if _lasts(folder / "ca.pem", now + LEAF_LIFE):
        key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "soma on this machine")])
    ca = (
        _certificate(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.NameConstraints(_here_alone(), None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(folder / "ca-key.pem", _pem(key))
    write_whole(folder / "ca.pem", ca.public_bytes(Encoding.PEM))
    return key, ca


def _leaf(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName(HERE[0]), *(x509.IPAddress(ip_address(address)) for address in HERE[1:])]
    return (
        _certificate(subject, ca.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _here_alone() -> list[x509.GeneralName]:
    networks = [x509.IPAddress(ip_network(f"{address}/{32 if '.' in address else 128}")) for address in HERE[1:]]
    return [x509.DNSName(HERE[0]), *networks]


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _lasts(path: Path, until: datetime) -> bool:
    """Whether a certificate is there and good for a while after that moment."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc > until + RENEW_BEFORE
    except (FileNotFoundError, ValueError):
        return False


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise Fault(f"The certificate {path} cannot be read: {error.strerror}. {ADVICE}") from error
    except ValueError as error:
        raise Fault(f"{path} holds no certificate as PEM. {ADVICE}") from error


def _read_key(path: Path) -> bytes:
    """The public half of the key in a file."""
    try:
        return _spki(load_pem_private_key(path.read_bytes(), None).public_key())  # type: ignore[arg-type]
    except OSError as error:
        raise Fault(f"The key {path} cannot be read: {error.strerror}. {ADVICE}") from error
    except TypeError as error:
        raise Fault(f"The key {path} is locked by a password. Unlock it first: openssl pkey -in … -out …") from error
    except ValueError as error:
        raise Fault(f"{path} holds no private key as PEM. {ADVICE}") from error


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
