"""The SPIFFE Workload API of one machine: gives the supervisor's children their identities, and keeps them fresh.

All rooms are one account and one program here, so a process is known by its number and start time: those that the
supervisor admitted as a room have that room's identity, all others get PERMISSION_DENIED.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from services.common.background import alongside
from services.common.lines import log
from services.local.workload.api import furnish
from services.local.workload.attestation import Register
from services.local.workload.ca import (
    LIVES,
    Lives,
    Root,
    Svid,
    drop_root,
    issue,
    keep_root,
    load_roots,
    new_root,
    signer,
    trusted,
    wants_root,
)
from services.local.workload.front import Front, open_front

LEAF_LIFE_S = LIVES.leaf.total_seconds()
ROOT_LIFE_S = LIVES.root.total_seconds()
ROOM = re.compile(r"[a-z][a-z0-9-]{0,62}")
ALSO_CALLED = {"edge": ("localhost",)}
"""Further DNS names in a leaf. Programs of this machine call the edge by this one; no one checks a room by it."""
LOOK_S = 5.0
"""How often the clock is looked at: timers stand still while a laptop sleeps, certificates do not."""


@asynccontextmanager
async def open_authority(
    directory: Path,
    socket: Path,
    trust_domain: str,
    namespace: str = "soma",
    *,
    leaf_life_s: float = LEAF_LIFE_S,
    ca_life_s: float = ROOT_LIFE_S,
) -> AsyncIterator[Authority]:
    """Serve the Workload API at `socket`, with roots kept in `directory`, until the block ends.

    Raises ValueError if the socket's path is too long for the kernel, or `ca_life_s` under four leaves' lives.
    """
    lives = Lives(timedelta(seconds=leaf_life_s), timedelta(seconds=ca_life_s))
    authority = Authority(directory, trust_domain, namespace, lives)
    async with (
        open_front(socket, authority.register, lambda server, room: furnish(server, authority, room)) as front,
        alongside(authority.keep_fresh(), name="authority"),
    ):
        authority.front = front
        yield authority


class Authority:
    """The roots and the SVIDs of one machine. Everything runs on one loop."""

    def __init__(self, directory: Path, trust_domain: str, namespace: str, lives: Lives) -> None:
        self.trust_domain, self.namespace, self.lives = trust_domain, namespace, lives
        self.register = Register()
        self.front: Front | None = None
        self.version = 0
        """Counts the changes of any SVID or of the bundle."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._roots = load_roots(directory)
        self._svids: dict[str, Svid] = {}
        self._changed = asyncio.Event()
        self.refresh(datetime.now(UTC))

    def admit(self, pid: int, room: str) -> None:
        """Let the process that has this number now be `room`. Raises ProcessLookupError if there is none."""
        if not ROOM.fullmatch(room):
            raise ValueError(f"{room!r} is no name of a room: small letters, digits and dashes, a letter first.")
        self.register.admit(pid, room)

    def forget(self, pid: int) -> None:
        """Take the identity from a process, and end its streams."""
        self.register.forget(pid)
        if self.front:
            self.front.cut(pid)

    def svid(self, room: str) -> tuple[bytes, bytes, bytes]:
        """The room's key, its chain and the bundle, as PEM."""
        svid = self.issued(room)
        key = load_der_private_key(svid.key_der, password=None)
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        bundle_pem = b"".join(root.certificate.public_bytes(Encoding.PEM) for root in self.bundle())
        return key_pem, svid.leaf.public_bytes(Encoding.PEM), bundle_pem

    def issued(self, room: str) -> Svid:
        """The room's SVID, made when first asked for."""
        now = datetime.now(UTC)
        self.refresh(now)
        if room not in self._svids:
            self._svids[room] = self._issue(room, now)
        return self._svids[room]

    def bundle(self) -> Sequence[Root]:
        return trusted(self._roots, self.lives, datetime.now(UTC))

    def spiffe_id(self, room: str) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{room}"

    async def changed(self, after: int) -> int:
        """Wait until the version is higher than `after`, and return it."""
        while self.version <= after:
            await self._changed.wait()
        return self.version

    def refresh(self, now: datetime) -> None:
        """Do what is due: add and drop roots, renew SVIDs, and tell those who wait."""
        before = self._roots
        if wants_root(self._roots, self.lives, now):
            self._add_root(now)
        kept = trusted(self._roots, self.lives, now)
        for root in self._roots:
            if root not in kept:
                drop_root(self._directory, root)
                log().info("root dropped", ends=root.ends.isoformat())
        self._roots = list(kept)
        due = [room for room, svid in self._svids.items() if svid.due <= now]
        for room in due:
            self._svids[room] = self._issue(room, now)
        if due or self._roots != before or not self.version:
            self.version += 1
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def keep_fresh(self) -> None:
        """refresh() for ever, often enough for the shortest life."""
        look_s = min(LOOK_S, self.lives.leaf.total_seconds() / 20)
        while True:
            await asyncio.sleep(look_s)
            self.refresh(datetime.now(UTC))

    def _add_root(self, now: datetime) -> None:
        """Add a root, once it is on disk. As long as another can sign, a disk that is full is waited for."""
        root = new_root(self.trust_domain, self.lives, now)
        try:
            keep_root(self._directory, root)
        except OSError as fault:
            if signer(self._roots, self.lives, now) is None:
                raise
            log().error("a new root cannot be kept yet", directory=str(self._directory), fault=str(fault))
            return
        self._roots = [*self._roots, root]
        log().info("root added", ends=root.ends.isoformat())

    def _issue(self, room: str, now: datetime) -> Svid:
        root = signer(self._roots, self.lives, now)
        if root is None:
            raise LookupError("No root can sign: refresh() makes one first.")
        dns, also = f"{room}.{self.trust_domain}", ALSO_CALLED.get(room, ())
        return issue(root, self.spiffe_id(room), dns, self.lives.leaf, now, also)
