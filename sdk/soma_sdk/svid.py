"""This program's certificate: an X.509-SVID and the bundle that it trusts, as PEM files that something keeps fresh."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Files: TypeAlias = str | Path | tuple[str | Path, str | Path, str | Path]
"""A folder with key.pem, cert.pem and ca.pem, as `soma svid` writes it; or those three files, in this order."""


@dataclass(frozen=True, slots=True)
class Svid:
    key: Path
    certificate: Path
    bundle: Path

    @classmethod
    def of(cls, files: Files) -> Svid:
        if isinstance(files, tuple):
            return cls(*(Path(file) for file in files))
        return cls(*(Path(files) / name for name in ("key.pem", "cert.pem", "ca.pem")))

    def stamp(self) -> tuple[int, ...]:
        """Changes when a file does. Raises FileNotFoundError."""
        stats = [file.stat() for file in (self.key, self.certificate, self.bundle)]
        return tuple(number for stat in stats for number in (stat.st_ino, stat.st_mtime_ns, stat.st_size))

    def context(self) -> ssl.SSLContext:
        """Mutual TLS 1.3 with the files as they are now. Raises ssl.SSLError in the middle of a change."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the other end's certificate and name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(self.bundle)
        context.load_cert_chain(self.certificate, self.key)
        return context
