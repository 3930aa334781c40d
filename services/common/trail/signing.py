"""The one door to Ed25519: who signs tree heads, with keys in files here and in a KMS by the same words elsewhere, and
how a signed note is checked with a public key alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.common.files import keep
from services.common.people.wrapping import KeyAway
from services.common.trail.checkpoint import KEY_ID_BYTES, Malformed, Note, Signature, decoded, encoded

ED25519 = b"\x01"
"""C2SP's number of the signature algorithm."""
KEY_BYTES = 32
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z][a-z0-9_]*)*")
"""What a key in a file can be called: such as soma.local/audit/acme."""
VERIFIER_KEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+(\S+)")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key, with the name it signs under."""

    name: str
    raw: bytes
    """32 bytes."""

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.raw).digest()[:KEY_ID_BYTES]

    @property
    def line(self) -> str:
        """`name+hexid+base64`, as C2SP writes verifier keys; `parse` reads it."""
        return f"{self.name}+{self.id.hex()}+{encoded(ED25519 + self.raw)}"

    @classmethod
    def parse(cls, line: str) -> VerifierKey:
        """Raises Malformed: also when the id is not that of the name and the key."""
        if not (found := VERIFIER_KEY.fullmatch(line)):
            raise Malformed(f"A verifier key is 'name+hexid+base64', not {line[:80]!r}.")
        both = decoded(found[3], 1 + KEY_BYTES, f"The key of {found[1]}")
        if both[:1] != ED25519:
            raise Malformed(f"The key of {found[1]} is not Ed25519.")
        key = cls(found[1], both[1:])
        if key.id.hex() != found[2]:
            raise Malformed(f"The id of {found[1]} should be {key.id.hex()}; it says {found[2]}.")
        return key

    def signed(self, text: str, signature: Signature) -> bool:
        """Whether it is this key's signature of the text."""
        if (signature.name, signature.key_id) != (self.name, self.id):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature.raw, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Signs under one key."""

    @property
    def key(self) -> VerifierKey: ...

    async def sign(self, text: str) -> Signature:
        """Raises KeyAway."""


class SigningKeys(Protocol):
    """Where keys are. A new one is made beside the old ones, which stay. Both raise KeyAway when nobody answers."""

    async def make(self, name: str) -> VerifierKey:
        """A new key that signs under the name. It is kept for good before this returns."""

    async def signer(self, key: VerifierKey) -> Signer:
        """Raises KeyGone."""


class KeyGone(KeyAway):
    """The key is not where it was, or is another one."""


def signer_of(note: Note, keys: Iterable[VerifierKey]) -> VerifierKey | None:
    """The first of the keys that signed the note. None: no signature of theirs holds."""
    return next((key for key in keys if any(key.signed(note.text, each) for each in note.signatures)), None)


@dataclass(frozen=True, slots=True)
class FileSigner:
    key: VerifierKey
    _secret: Ed25519PrivateKey

    async def sign(self, text: str) -> Signature:
        return Signature(self.key.name, self.key.id, self._secret.sign(text.encode()))


@dataclass(frozen=True, slots=True)
class FileSigningKeys:
    """A folder that only its owner reads: under each name, one file a key, called by its id."""

    folder: Path

    async def make(self, name: str) -> VerifierKey:
        secret = Ed25519PrivateKey.generate()
        key = VerifierKey(name, secret.public_key().public_bytes_raw())
        await asyncio.to_thread(keep, self._file(key), secret.private_bytes_raw())
        return key

    async def signer(self, key: VerifierKey) -> FileSigner:
        file = self._file(key)
        try:
            secret = Ed25519PrivateKey.from_private_bytes(file.read_bytes())
        except (OSError, ValueError) as fault:
            raise KeyGone(f"{file} should hold the key {key.id.hex()} of {key.name}: {fault}") from fault
        if secret.public_key().public_bytes_raw() != key.raw:
            raise KeyGone(f"{file} holds another key than {key.id.hex()} of {key.name}.")
        return FileSigner(key, secret)

    def _file(self, key: VerifierKey) -> Path:
        return self.folder / checked(key.name).replace("/", "_") / f"{key.id.hex()}.key"


def checked(name: str) -> str:
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} cannot be the name of a key: it must be like soma.local/audit/acme.")
    return name


@asynccontextmanager
async def open_signing_keys(url: str) -> AsyncIterator[SigningKeys]:
    """Beside the tenants' keys: in folder `audit` of `file:///folder`, or in Vault, `vault+https://host:port/mount`.
    ValueError for a way that is not known."""
    way, _, rest = url.partition("://")
    if way == "file" and rest.startswith("/"):
        yield FileSigningKeys(Path(rest) / "audit")
    elif way in ("vault+http", "vault+https") and rest:
        from services.common.trail.vault_signing import open_vault_signing  # its library takes a while to load

        async with open_vault_signing(url) as vault:
            yield vault
    else:
        raise ValueError(f"SOMA_KEYS_URL is {url!r}; it must be file:///folder or vault+https://host:port/mount.")
