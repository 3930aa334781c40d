"""HTTPS at the edge, by option: with a certificate that was given, or one of this machine. Remembered in `https/`."""

from __future__ import annotations

import contextlib
import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from services.local.files import write_whole


@dataclass(frozen=True, slots=True)
class Https:
    """The certificate at work."""

    cert: Path
    key: Path
    trust: Path
    """What a client believes it by: the CA of this machine, or the given certificate itself."""
    names: tuple[str, ...]
    """DNS names and addresses that it holds for; the first is ours."""

    @property
    def host(self) -> str:
        return self.names[0]

    def context(self) -> ssl.SSLContext:
        """For our own calls of the edge: this certificate is believed, and none besides."""
        context = ssl.create_default_context(cafile=str(self.trust))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


@dataclass(frozen=True, slots=True)
class Given:
    """A certificate with its chain, and its key, as PEM files."""

    cert: Path
    key: Path


Wish = bool | Given | None
"""What `soma up` was told: HTTPS with a certificate of this machine or a given one, none, or as last time."""


def settle(home: Path, wish: Wish) -> Https | None:
    """What holds for this start, and is remembered for the next. Fault when the certificate cannot be used."""
    folder = home / "https"
    if wish is False:
        forget(folder)
        return None
    wish = wish or remembered(folder)
    if wish is None:
        return None
    from services.local.edge import certificates  # what checks certificates takes a while to load

    if isinstance(wish, Given):
        chosen = Https(wish.cert, wish.key, wish.cert, certificates.look_at(wish.cert, wish.key))
    else:
        chosen = Https(folder / "cert.pem", folder / "key.pem", folder / "ca.pem", certificates.make(folder))
    folder.mkdir(exist_ok=True, mode=0o700)
    write_whole(folder / "https.json", json.dumps(kept(chosen), indent=1).encode())
    return chosen


def remembered(folder: Path) -> Wish:
    https = load(folder.parent)
    if https is None:
        return None
    return True if https.cert.parent == folder else Given(https.cert, https.key)


def load(home: Path) -> Https | None:
    """What the mesh of a folder was started with."""
    with contextlib.suppress(FileNotFoundError):
        said = json.loads((home / "https/https.json").read_bytes())
        return Https(Path(said["cert"]), Path(said["key"]), Path(said["trust"]), tuple(said["names"]))
    return None


def kept(https: Https) -> dict[str, object]:
    return {"cert": str(https.cert), "key": str(https.key), "trust": str(https.trust), "names": https.names}


def forget(folder: Path) -> None:
    """Back to HTTP. The CA of this machine stays, for those who have come to trust it."""
    (folder / "https.json").unlink(missing_ok=True)
