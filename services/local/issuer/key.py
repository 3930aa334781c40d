"""The issuer's key on disk, and tokens signed with it. Light: `soma token` loads this and no server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.common.clock import Clock
from services.common.tokens import SigningKey
from services.local.issuer.grants import Account, access_claims


def mint(
    key_dir: Path,
    issuer: str,
    audience: str,
    tenant: str,
    person: str,
    roles: Sequence[str],
    ttl_s: int,
    clock: Clock,
) -> str:
    """An access token signed by the issuer's key. No server need run; the key is made if there is none."""
    account = Account(tenant, person, tuple(roles))
    return open_key(key_dir).sign(access_claims(issuer, audience, account, ttl_s, clock))


def open_key(key_dir: Path) -> SigningKey:
    """The issuer's key, made once: readable by its owner alone, and the same for all who come at the same moment."""
    path = key_dir / "es256.pem"
    if not path.exists():
        key_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = key_dir / f".{secrets.token_hex(8)}"
        draft.touch(0o600)
        draft.write_bytes(new_pem())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return SigningKey.of_pem(path.read_bytes())


def new_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
