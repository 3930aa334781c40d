"""Who this room is, and who the other end of a connection is.

The room's X.509-SVID is followed for as long as the identity is open. An SVID that has expired or was withdrawn is not
used: calls are refused until a new one comes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any

import grpc
from cryptography import x509

from services.common.background import alongside
from services.common.errors import Denied, Unavailable
from services.common.lines import log
from services.common.workload import Material, first_material, stream

START_S = 10.0
"""How long the Workload API may take to come up."""
CHECK_S = 1.0
"""How often the SVID's age is looked at: by the wall clock, which goes on while a laptop sleeps."""
WITHDRAWN_AFTER_S = 10.0
"""How long the Workload API must go on refusing before an identity that it once gave is no longer used."""
PAUSES_S = (0.1, 0.3, 1.0, 2.0)


@asynccontextmanager
async def open_identity(socket: str, trust_domain: str, *, start_s: float = START_S) -> AsyncIterator[Identity]:
    """The identity that the Workload API at `socket` (unix:///path) gives this process, kept fresh.

    Waits up to `start_s` for a Workload API that is not there yet. Raises Denied WORKLOAD_REFUSED with the API's own
    sentence if it refuses, Unavailable ROOM_UNAVAILABLE if it does not answer.
    """
    identity = Identity(trust_domain, await first_material(socket, trust_domain, start_s))
    async with alongside(_follow(identity, socket), name="identity"):
        yield identity


class Identity:
    """This room's SVID as it is now. Reading it never waits."""

    def __init__(self, trust_domain: str, material: Material) -> None:
        self.trust_domain = trust_domain
        self.version = 0
        """Counts the rotations, from 1."""
        self.life_s = 0.0
        """How long the SVID was still good for when it came."""
        self._material = material
        self._refused_at: float | None = None
        self._changed = asyncio.Event()
        self.accept(material)

    @property
    def spiffe_id(self) -> str:
        return self._material.spiffe_id

    @property
    def room(self) -> str:
        """The service account, such as "agent"."""
        return service_account(self._material.spiffe_id)

    @property
    def material(self) -> Material:
        return self._material

    @property
    def expired(self) -> bool:
        """The SVID's time is over, or it was withdrawn: it must not be used."""
        return time.time() >= self._material.expires_at or self.withdrawn

    @property
    def withdrawn(self) -> bool:
        return self._refused_at is not None and time.monotonic() - self._refused_at > WITHDRAWN_AFTER_S

    @property
    def overdue(self) -> bool:
        """Three quarters of the time that the SVID had when it came are over; a rotation comes at half a life."""
        return time.time() > self._material.expires_at - 0.25 * self.life_s

    def check(self) -> None:
        """Raise Unavailable ROOM_UNAVAILABLE if the identity must not be used."""
        if self.expired:
            why = "was withdrawn" if self.withdrawn else "has expired and no new one came"
            raise Unavailable(
                "ROOM_UNAVAILABLE",
                f"The identity of this {self.room} {why}: is the Workload API still running?",
                retry_after_s=1,
                room=self.room,
            )

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server: mutual TLS, each handshake with the newest SVID and bundle."""
        served = self.version
        first = self._server_config

        def newest() -> Any:  # a configuration, or None for "as before", which gRPC's stubs do not know
            nonlocal served
            if served == self.version:
                return None
            served = self.version
            return self._server_config

        return grpc.dynamic_ssl_server_credentials(first, newest, require_client_authentication=True)

    def server_options(self, longest_call_s: float) -> tuple[tuple[str, int], ...]:
        """Options of a server whose calls end within `longest_call_s`.

        TLS looks at certificates at the handshake only, so a connection lives a quarter of an SVID's time at most. What
        runs on it then goes on to its own end: a rotation never cuts a call.
        """
        return (
            ("grpc.max_connection_age_ms", int(self.life_s * 250)),
            ("grpc.max_connection_age_grace_ms", int(longest_call_s * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel opened now. It keeps this SVID: open a new channel after a rotation."""
        now = self._material
        return grpc.ssl_channel_credentials(now.bundle_pem, now.key_pem, now.chain_pem)

    async def rotated(self, after: int) -> int:
        """Wait until the version is higher than `after`, and return it."""
        while self.version <= after:
            await self._changed.wait()
        return self.version

    def accept(self, material: Material) -> None:
        """Take a newer SVID or bundle into use. For the watcher, on the loop."""
        self._refused_at = None
        if self.version and material == self._material:
            return
        self._material = material
        self.life_s = material.expires_at - time.time()
        self._server_config = grpc.ssl_server_certificate_configuration(
            [(material.key_pem, material.chain_pem)], root_certificates=material.bundle_pem
        )
        self.version += 1  # last: handshakes read both on threads of gRPC's own
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def refuse(self) -> None:
        """The Workload API says that it has no identity for this process. For the watcher, on the loop."""
        if self._refused_at is None:
            self._refused_at = time.monotonic()


def service_account(spiffe_id: str) -> str:
    """The last part of the path, such as "router"."""
    return spiffe_id.rpartition("/")[2]


def peer_of(auth_context: Mapping[str, Iterable[bytes]], trust_domain: str, namespace: str) -> str:
    """The SPIFFE ID of the other end, from a servicer context's auth_context().

    gRPC has checked chain and dates, no more: a CA's certificate and another trust domain's ID pass there.
    Raises Denied WORKLOAD_REFUSED unless it is one ID, spiffe://<trust_domain>/ns/<namespace>/sa/<name>, in a leaf: a
    room of another namespace is another mesh's.
    """
    ids, pems = list(auth_context.get("peer_spiffe_id", ())), list(auth_context.get("x509_pem_cert", ()))
    if len(ids) != 1 or len(pems) != 1:
        raise _stranger("The caller shows no certificate with exactly one SPIFFE ID.")
    return _checked(ids[0].decode(errors="replace"), pems[0], trust_domain, namespace)


@lru_cache(maxsize=256)
def _checked(spiffe_id: str, pem: bytes, trust_domain: str, namespace: str) -> str:
    if not re.fullmatch(re.escape(f"spiffe://{trust_domain}/ns/{namespace}/sa/") + "[a-zA-Z0-9._-]+", spiffe_id):
        raise _stranger(f"The caller's SPIFFE ID {spiffe_id[:200]} is not of the form this mesh gives.")
    leaf = x509.load_pem_x509_certificate(pem)
    if _uris(leaf) != [spiffe_id]:
        raise _stranger("The caller's certificate names more than its SPIFFE ID.")
    if _may_sign(leaf):
        raise _stranger("The caller shows a certificate that may sign others; a workload's may not.")
    return spiffe_id


def _uris(leaf: x509.Certificate) -> list[str]:
    with suppress(x509.ExtensionNotFound):
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)
    return []


def _may_sign(leaf: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return True
    with suppress(x509.ExtensionNotFound):
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        return usage.key_cert_sign or usage.crl_sign
    return False


def _stranger(sentence: str) -> Denied:
    return Denied("WORKLOAD_REFUSED", sentence)


async def _follow(identity: Identity, socket: str) -> None:
    """Listen for ever; connect anew when the stream ends, or when no rotation came in time."""
    attempt, logged = 0, ""
    while True:
        version = identity.version
        async with stream(socket, identity.trust_domain, identity.accept) as ended:
            why = await _end_of(ended, identity)
        if "PERMISSION_DENIED" in why:
            identity.refuse()
        attempt = 0 if identity.version > version else attempt + 1
        if attempt <= 1 or why != logged:
            log().warning("workload api stream ended", why=why, room=identity.room)
            logged = why
        await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])


async def _end_of(ended: asyncio.Future[str], identity: Identity) -> str:
    """Why the stream ended; "overdue" if it has had an eighth of the SVID's life to bring a fresh one and has not."""
    version, began = identity.version, time.monotonic()
    while not ended.done():
        await asyncio.wait([ended], timeout=CHECK_S)
        if identity.version > version:
            version, began = identity.version, time.monotonic()
        patience_s = min(max(identity.life_s / 8, CHECK_S), 30.0)
        if identity.overdue and time.monotonic() - began > patience_s:
            return "overdue"
    return ended.result()
