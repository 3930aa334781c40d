"""One call: on a fresh connection, with the person's token, within a deadline, its refusal as one of our errors.

Reads, and writes that carry a request_id, are made again when nothing answered. Every write whose request can carry one
gets one.
"""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import grpclib
from betterproto import Message, ServiceStub
from grpclib.client import Stream
from grpclib.const import Cardinality
from grpclib.exceptions import ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from soma_sdk.apart import apart
from soma_sdk.errors import NotTaken, TooLate, Unauthenticated, Unavailable, error_of
from soma_sdk.lines import Line, Lines
from soma_sdk.patience import Patience
from soma_sdk.tokens import Tokens

A = TypeVar("A", bound=Message)
S = TypeVar("S", bound=ServiceStub)

UNARY_S = 25.0
"""A call's time with all its tries. Rooms end a call of theirs after 20 seconds."""
SLACK_S = 1.0
"""For grpclib to end the call by its own deadline first."""
STREAM_S = 400.0
"""Longer than any turn may take."""
SILENCE_S = 45.0
"""Streams have a heartbeat every 15 seconds: one that says nothing for three of them is dead."""
READS = ("Get", "List", "Watch", "Check", "Decide", "Replay")
"""What the methods that change nothing begin with."""
BROKEN = (OSError, StreamTerminatedError, ProtocolError, H2Error, AssertionError, AttributeError)
"""What grpclib raises for a connection that ends under a call; the last two by accident, in mid-message."""


@dataclass(frozen=True, slots=True)
class Calls:
    lines: Lines
    tokens: Tokens
    silence_s: float = SILENCE_S

    def stub(self, kind: type[S]) -> S:
        """A generated stub whose calls are made here."""
        return cast(S, bound(kind)(self))

    async def unary(self, route: str, request: Message, answer: type[A], within_s: float = UNARY_S) -> A:
        """The answer. Raises TooLate when there is none in time, whatever took so long."""
        try:
            async with asyncio.timeout(within_s + SLACK_S):
                return await self._unary_patient(route, request, answer, time.monotonic() + within_s)
        except TimeoutError as fault:
            raise too_late(route, within_s) from fault

    async def stream(
        self, route: str, request: Message, answer: type[A], within_s: float = STREAM_S
    ) -> AsyncIterator[A]:
        """The messages of one stream. A cut, by the connection or by silence, is Unavailable."""
        token, renewed = await self.tokens.current(), False
        patience = Patience(within_s)
        while True:
            try:
                async for message in self._stream_once(route, request, answer, token, within_s):
                    yield message
            except Unauthenticated:
                if renewed or (fresh := await self.tokens.after(token)) == token:
                    raise
                token, renewed = fresh, True
            except NotTaken as fault:
                await patience.wait(fault)
            else:
                return

    async def _unary_patient(self, route: str, request: Message, answer: type[A], ends_at: float) -> A:
        """With further tries while nothing answers, where a repeat is harmless."""
        request, may_repeat = repeatable(route, request)
        patience = Patience(ends_at - time.monotonic())
        while True:
            try:
                return await self._unary_admitted(route, request, answer, max(ends_at - time.monotonic(), 0.001))
            except Unavailable as fault:
                if not may_repeat and not isinstance(fault, NotTaken):
                    raise
                await patience.wait(fault)

    async def _unary_admitted(self, route: str, request: Message, answer: type[A], within_s: float) -> A:
        """With a fresh token, when the one we have is refused."""
        token = await self.tokens.current()
        try:
            return await self._unary_once(route, request, answer, token, within_s)
        except Unauthenticated:
            if (fresh := await self.tokens.after(token)) == token:
                raise
            return await self._unary_once(route, request, answer, fresh, within_s)

    async def _unary_once(self, route: str, request: Message, answer: type[A], token: str, within_s: float) -> A:
        async with self.lines.line() as line:
            try:
                with translated(self.lines):
                    return await apart(
                        self._exchange(line, route, request, answer, token, within_s), within_s + SLACK_S
                    )
            except TimeoutError as fault:
                self.lines.retire(line)
                raise too_late(route, within_s) from fault

    async def _exchange(
        self, line: Line, route: str, request: Message, answer: type[A], token: str, within_s: float
    ) -> A:
        async with line.channel.request(
            route, Cardinality.UNARY_UNARY, type(request), answer, timeout=within_s, metadata=metadata(token)
        ) as call:
            await call.send_message(request, end=True)
            message = await call.recv_message()
            await finish(call)
            self.lines.proven = True
        if message is None:
            raise StreamTerminatedError("The call ended without an answer.")
        return message

    async def _stream_once(
        self, route: str, request: Message, answer: type[A], token: str, within_s: float
    ) -> AsyncIterator[A]:
        async with self.lines.line() as line:
            try:
                with translated(self.lines):
                    async with line.channel.request(
                        route, Cardinality.UNARY_STREAM, type(request), answer,
                        timeout=within_s, metadata=metadata(token),
                    ) as call:  # fmt: skip
                        await apart(call.send_message(request, end=True), self.silence_s)
                        while (message := await apart(call.recv_message(), self.silence_s)) is not None:
                            self.lines.proven = True
                            yield message
                        await apart(finish(call), self.silence_s)
            except TimeoutError as fault:
                self.lines.retire(line)
                raise self.lines.lost(f"{route} was silent for too long.") from fault


async def finish(call: Stream[Any, Any]) -> None:
    """Read the status, here and not when the call is left: there it would be waited for in the caller's own task."""
    if not call._recv_trailing_metadata_done:
        await call.recv_trailing_metadata()


@contextmanager
def translated(lines: Lines) -> Iterator[None]:
    """grpclib's faults as our errors."""
    try:
        yield
    except grpclib.GRPCError as fault:
        lines.proven = True
        raise error_of(fault) from fault
    except TimeoutError:  # an OSError too, and the callers'
        raise
    except BROKEN as fault:
        raise lines.lost(str(fault) or type(fault).__name__) from fault


def too_late(route: str, within_s: float) -> TooLate:
    return TooLate("DEADLINE_EXCEEDED", f"{route} did not answer in {within_s:.0f} s.")


def metadata(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def repeatable(route: str, request: Message) -> tuple[Message, bool]:
    """The request as it is sent, and whether it may be sent twice. The caller's own is left as it is."""
    if hasattr(request, "request_id"):
        sent: Any = copy.copy(request)
        sent.request_id = sent.request_id or str(uuid.uuid4())
        return sent, True
    return request, route.rpartition("/")[2].startswith(READS)


class Guarded:
    """In front of a generated stub: its `channel` is our Calls."""

    channel: Calls

    async def _unary_unary(
        self, route: str, request: Message, answer: type[A], *, timeout: float | None = None, **_: object
    ) -> A:
        return await self.channel.unary(route, request, answer, UNARY_S if timeout is None else timeout)

    async def _unary_stream(
        self, route: str, request: Message, answer: type[A], *, timeout: float | None = None, **_: object
    ) -> AsyncIterator[A]:
        request, _may_repeat = repeatable(route, request)
        async for message in self.channel.stream(route, request, answer, STREAM_S if timeout is None else timeout):
            yield message


@lru_cache
def bound(kind: type[ServiceStub]) -> type[Any]:
    return type(kind.__name__, (Guarded, kind), {})
