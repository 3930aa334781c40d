"""Calling another room: one channel that outlives rotations, and the other room's refusals as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc.aio import AioRpcError, Channel

from services.common.background import alongside
from services.common.caller import Caller
from services.common.errors import Refusal, TooLate, Unavailable, refusal_of
from services.common.identity import Identity
from services.common.lines import log

READY_S = 5.0
"""How long a new channel may take to connect before the old one is kept and another is tried."""
AGAIN_S = 0.5
LAST_CALL_S = 3600.0
"""How long an old channel waits for its last call. Calls have deadlines of their own, far shorter."""
STATUS_KEY = "grpc-status-details-bin"

Metadata = tuple[tuple[str, str], ...]


@asynccontextmanager
async def open_channel(
    identity: Identity, address: str, room: str, *, options: Sequence[tuple[str, Any]] = ()
) -> AsyncIterator[RoomChannel]:
    """A channel to `room` at `address` (host:port), for any generated stub: ChatServiceStub(channel).

    Connects when first used. The other end must show a certificate of <room>.<trust domain>.
    """
    channel = RoomChannel(identity, address, room, options)
    try:
        async with alongside(channel.follow(), name=f"channel to {room}"):
            yield channel
    finally:
        await channel.close()


class RoomChannel(Channel):
    """A gRPC channel whose connection is replaced, new before old, when this room's identity rotates."""

    def __init__(self, identity: Identity, address: str, room: str, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.room = room
        self._identity, self._address = identity, address
        self._options = (*_OPTIONS, ("grpc.ssl_target_name_override", f"{room}.{identity.trust_domain}"), *options)
        self._version = identity.version
        self._line = self._connect()
        self._retired: set[asyncio.Task[None]] = set()

    @property
    def line(self) -> Line:
        """The connection for a call that begins now. Raises Unavailable ROOM_UNAVAILABLE without a valid identity."""
        self._identity.check()
        return self._line

    async def follow(self) -> None:
        """Replace the connection at each rotation, for ever."""
        while True:
            version = await self._identity.rotated(self._version)
            fresh = self._connect()
            if not await self._may_replace(fresh):
                log().warning("no connection with the new identity yet", room=self.room, address=self._address)
                await fresh.channel.close()
                await asyncio.sleep(AGAIN_S)
                continue
            old, self._line, self._version = self._line, fresh, version
            self._retire(old)

    async def _may_replace(self, fresh: Line) -> bool:
        """Whether the new connection is up, or the old one is not up either."""
        try:
            async with asyncio.timeout(READY_S):
                await fresh.channel.channel_ready()
        except TimeoutError:
            return self.get_state() is not grpc.ChannelConnectivity.READY
        return True

    def _connect(self) -> Line:
        return Line(grpc.aio.secure_channel(self._address, self._identity.channel_credentials(), self._options))

    def _retire(self, old: Line) -> None:
        task = asyncio.create_task(old.close_when_idle(), name=f"last calls to {self.room}")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def close(self, grace: float | None = None) -> None:
        """Close the connection, and the old ones with what still runs on them."""
        for task in (retired := list(self._retired)):
            task.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        await self._line.channel.close(grace)

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Method(self, "unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Method(self, "unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Method(self, "stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Method(self, "stream_stream", arguments, options)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._line.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._line.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._line.channel.channel_ready()

    async def __aenter__(self) -> RoomChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Line:
    """One connection and how many calls run on it."""

    __slots__ = ("_idle", "channel", "running")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.running = 0
        self._idle = asyncio.Event()

    def began(self, call: Any) -> None:
        self.running += 1
        call.add_done_callback(self._ended)

    def _ended(self, _call: object) -> None:
        self.running -= 1
        if not self.running:
            self._idle.set()

    async def close_when_idle(self) -> None:
        """Close after the last call; no new one begins here any more."""
        try:
            async with asyncio.timeout(LAST_CALL_S):
                while self.running:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log().warning("an old connection was closed under its last calls", running=self.running)
        finally:
            await self.channel.close()


class _Method:
    """One method of a stub; each call begins on the connection that is current then."""

    __slots__ = ("_arguments", "_bound", "_channel", "_kind", "_line", "_options")

    def __init__(self, channel: RoomChannel, kind: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._channel, self._kind, self._arguments, self._options = channel, kind, arguments, options
        self._line: Line | None = None
        self._bound: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        line = self._channel.line
        if line is not self._line:
            self._bound = getattr(line.channel, self._kind)(*self._arguments, **self._options)
            self._line = line
        call = self._bound(*arguments, **options)
        line.began(call)
        return call


def passing(caller: Caller, *, trace: str = "") -> Metadata:
    """What goes along with a call: the person's own token, and the W3C `traceparent`."""
    token = (("authorization", f"Bearer {caller.token}"),) if caller.token else ()
    return (*token, ("traceparent", trace)) if trace else token


@contextmanager
def refusals_of(room: str) -> Iterator[None]:
    """Raise what `room` refuses as the refusal it meant; no answer at all is Unavailable ROOM_UNAVAILABLE."""
    try:
        yield
    except AioRpcError as error:
        raise _refusal(error, room) from error


def _refusal(error: AioRpcError, room: str) -> Refusal:
    if (status := _status(error)) is not None:
        return refusal_of(status)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TooLate("DEADLINE_EXCEEDED", f"The {room} took longer than this call may take. Try again.", room=room)
    return Unavailable(
        "ROOM_UNAVAILABLE",
        f"The {room} is not answering. Try again in a moment.",
        retry_after_s=1,
        room=room,
        status=error.code().name,
    )


def _status(error: AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # what a connection with its handshake may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
