"""The door to the `spiffe` library: one answer of the Workload API, or a stream of them.

The library's stream is used rather than its X509Source: the source keeps silent when it closes, when its identity is
withdrawn and when its SVID expires. Here a stream says why it ended, and a new one takes a new connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import TrustDomain, WorkloadApiClient, X509Svid
from spiffe.errors import ArgumentError
from spiffe.workloadapi.errors import WorkloadApiError
from spiffe.workloadapi.x509_context import X509Context

from services.common.errors import Denied, Refusal, Unavailable

FETCH_S = 2.0
AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Material:
    """One X.509-SVID and the bundle that came with it, as PEM. `expires_at` is in seconds since the epoch."""

    spiffe_id: str
    key_pem: bytes
    chain_pem: bytes
    bundle_pem: bytes
    expires_at: float


async def first_material(socket: str, trust_domain: str, start_s: float) -> Material:
    """The first answer, waiting up to `start_s` for a Workload API that is not there yet.

    Raises Denied WORKLOAD_REFUSED with the API's own sentence if it refuses, Unavailable ROOM_UNAVAILABLE if it does
    not answer in time or cannot.
    """
    if not socket.startswith("unix:/"):
        raise Unavailable(
            "ROOM_UNAVAILABLE", f"The Workload API's address must look like unix:///path/to/socket, not {socket!r}."
        )
    end = time.monotonic() + start_s
    while True:
        left_s = max(end - time.monotonic(), 0.1)
        try:
            return await asyncio.to_thread(_fetch, socket, trust_domain, min(left_s, FETCH_S))
        except Unavailable:
            if time.monotonic() + AGAIN_S >= end:
                raise
        await asyncio.sleep(AGAIN_S)


def _fetch(socket: str, trust_domain: str, timeout_s: float) -> Material:
    """One answer of the Workload API, with the sentence of its refusal, which the stream would not tell."""
    try:
        with WorkloadApiClient(socket) as client:
            return material_of(client.fetch_x509_context(timeout=timeout_s), trust_domain)
    except ArgumentError as error:
        raise _silent(socket, "the socket is not there") from error
    except WorkloadApiError as error:
        raise _told(socket, error) from error


def _told(socket: str, error: WorkloadApiError) -> Refusal:
    call = error.__cause__
    if not isinstance(call, grpc.Call):
        return _silent(socket, str(error))
    if call.code() is grpc.StatusCode.PERMISSION_DENIED:
        return Denied("WORKLOAD_REFUSED", call.details() or "The Workload API has no identity for this process.")
    return _silent(socket, f"{call.code().name.lower()}: {call.details()}")


def _silent(socket: str, why: str) -> Unavailable:
    return Unavailable(
        "ROOM_UNAVAILABLE", f"The Workload API at {socket} gives no identity ({why}). Start it with: soma up"
    )


def material_of(context: X509Context, trust_domain: str) -> Material:
    """The first SVID of the trust domain. Raises Denied if there is none, Unavailable if it has expired."""
    svid = next((svid for svid in context.x509_svids if svid.spiffe_id.trust_domain.name == trust_domain), None)
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain(trust_domain))
    if svid is None or bundle is None:
        given = context.default_svid.spiffe_id
        raise Denied("WORKLOAD_REFUSED", f"The Workload API gives {given}; this mesh's trust domain is {trust_domain}.")
    material = _pems(svid, bundle.x509_authorities)
    if time.time() >= material.expires_at:
        raise Unavailable("ROOM_UNAVAILABLE", "The Workload API gave an SVID that has expired. Are the clocks right?")
    return material


def _pems(svid: X509Svid, authorities: Iterable[x509.Certificate]) -> Material:
    return Material(
        spiffe_id=str(svid.spiffe_id),
        key_pem=svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        chain_pem=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in svid.cert_chain),
        bundle_pem=b"".join(sorted(authority.public_bytes(Encoding.PEM) for authority in authorities)),
        expires_at=svid.leaf.not_valid_after_utc.timestamp(),
    )


@asynccontextmanager
async def stream(
    socket: str, trust_domain: str, accept: Callable[[Material], None]
) -> AsyncIterator[asyncio.Future[str]]:
    """Hand each update to `accept`, on the loop. The future is done when the stream has ended, and says why."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def on_loop(act: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop may be closed already: the library's thread ends a little later
            loop.call_soon_threadsafe(act, *arguments)

    def end(error: Exception) -> None:
        if not ended.done():
            ended.set_result(str(error))

    try:
        client = await asyncio.to_thread(WorkloadApiClient, socket)
    except ArgumentError as error:
        end(error)
        yield ended
        return
    watch = client.stream_x509_contexts(
        lambda context: on_loop(accept, material_of(context, trust_domain)),
        lambda error: on_loop(end, error),
        retry_connect=False,
    )
    try:
        yield ended
    finally:
        watch.cancel()
        await asyncio.to_thread(client.close)
