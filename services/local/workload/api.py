"""SpiffeWorkloadAPI on the wire, for one room or for those who have none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Never

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe._proto import workload_pb2 as wire
from spiffe._proto import workload_pb2_grpc as wire_grpc

from services.local.workload.ca import Root

if TYPE_CHECKING:
    from services.local.workload.authority import Authority

HEADER = ("workload.spiffe.io", "true")
NOBODY = "This process is no part of the mesh: start rooms with `soma up`, or one by hand with `soma run ROOM`."

Context = grpc.aio.ServicerContext[Any, Any]


def furnish(server: grpc.aio.Server, authority: Authority, room: str | None) -> None:
    """Serve the Workload API on `server` as `room` sees it; None is for a process that has no room."""
    add: Callable[[WorkloadApi, grpc.aio.Server], None] = wire_grpc.add_SpiffeWorkloadAPIServicer_to_server
    add(WorkloadApi(authority, room), server)


class WorkloadApi(wire_grpc.SpiffeWorkloadAPIServicer):
    """Each stream begins with the full set at once and sends it again whenever it changes."""

    def __init__(self, authority: Authority, room: str | None) -> None:
        self._authority, self._room = authority, room

    async def FetchX509SVID(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ARG002
        room = await self._admit(context)
        async for answer in self._each(lambda: self._svids(room)):
            yield answer

    async def FetchX509Bundles(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ARG002
        await self._admit(context)
        async for answer in self._each(self._bundles):
            yield answer

    async def FetchJWTSVID(self, request: Any, context: Context) -> Any:  # noqa: ARG002
        await self._no_jwt(context)

    async def FetchJWTBundles(self, request: Any, context: Context) -> Any:  # noqa: ARG002
        await self._no_jwt(context)

    async def ValidateJWTSVID(self, request: Any, context: Context) -> Any:  # noqa: ARG002
        await self._no_jwt(context)

    async def _no_jwt(self, context: Context) -> Never:
        await self._admit(context)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This machine's authority gives X.509-SVIDs only.")

    async def _admit(self, context: Context) -> str:
        """The room that asks. Ends the call with INVALID_ARGUMENT without the header, PERMISSION_DENIED for nobody."""
        headers = [pair for pair in context.invocation_metadata() or () if pair[0] == HEADER[0]]
        if headers != [HEADER]:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The header workload.spiffe.io: true is missing.")
        if self._room is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, NOBODY)
        return self._room

    async def _each(self, make: Callable[[], Any]) -> AsyncIterator[Any]:
        sent = None
        while True:
            version = self._authority.version
            if (answer := make()) != sent:
                yield answer
                sent = answer
            await self._authority.changed(version)

    def _svids(self, room: str) -> Any:
        svid, bundle = self._authority.issued(room), _der(self._authority.bundle())
        entry = wire.X509SVID(
            spiffe_id=svid.spiffe_id,
            x509_svid=svid.leaf.public_bytes(Encoding.DER),
            x509_svid_key=svid.key_der,
            bundle=bundle,
        )
        return wire.X509SVIDResponse(svids=[entry])

    def _bundles(self) -> Any:
        trust_domain = f"spiffe://{self._authority.trust_domain}"
        return wire.X509BundlesResponse(bundles={trust_domain: _der(self._authority.bundle())})


def _der(roots: Sequence[Root]) -> bytes:
    return b"".join(root.certificate.public_bytes(Encoding.DER) for root in roots)
