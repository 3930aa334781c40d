"""One call with any bytes, read to its end within a bound or hung up; and whether such an answer may be given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc import StatusCode

from services.common.errors import CATALOGUE, refusal_of
from tests.fuzz.foreseen import NONE, OURS, foreseen, in_band
from tests.fuzz.methods import Method
from tests.house import Person

T = TypeVar("T")

DEADLINE_S = 20.0
QUIET_S = 0.3
"""A stream that has begun and is silent for so long is hung up: it may be a feed without an end."""
LATE, LATE_S = frozenset({"DEADLINE_EXCEEDED", "ROOM_UNAVAILABLE", "STORE_UNAVAILABLE"}), 2.0
"""What a room says of another that does not answer it in time, after so long at least."""
AT_ONCE = 6
ALL = 1_000_000
TRACES = (
    "", "x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "-" * 55, "00-" + "Z" * 32 + "-b7ad6b7169203331-01",
    "x" * 2000, "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-zz",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    code: StatusCode
    reason: str
    field: str
    said: list[Message]
    took_s: float
    details: str = ""
    foreseen: frozenset[str] = NONE

    @property
    def complaint(self) -> str:
        """What is wrong with the answer. Empty when nothing is."""
        if self.took_s > DEADLINE_S:
            return "took too long"
        good = CATALOGUE - OURS | self.foreseen
        if self.code not in (StatusCode.OK, StatusCode.CANCELLED) and self.reason not in good:
            return f"{self.code.name} {self.reason or 'without a reason'}: {self.details}"
        return next(filter(None, map(in_band, self.said)), "")


async def call(person: Person, method: Method, body: bytes, trace: str = "", most: int = ALL) -> Outcome:
    """The whole call; of a stream at most so many messages, of 0 not even one is waited for. One that was late is made
    again: the machine may have stood still, and what a request brings about it brings about twice."""
    outcome = await call_once(person, method, body, trace, most)
    if outcome.reason in LATE and outcome.took_s >= LATE_S:
        outcome = await call_once(person, method, body, trace, most)
    return outcome


async def call_once(person: Person, method: Method, body: bytes, trace: str, most: int) -> Outcome:
    channel = person.house.channel(method.room, method.workload)
    metadata = person.metadata + ((("traceparent", trace),) if trace else ())
    began, said = time.perf_counter(), list[Message]()
    try:
        if method.streams:
            stream: Any = channel.unary_stream(method.path)
            await read(stream(body, metadata=metadata, timeout=DEADLINE_S * 2), method, most, said)
        else:
            unary: Any = channel.unary_unary(method.path)
            answer = unary(body, metadata=metadata, timeout=DEADLINE_S)
            said.append(method.answer.FromString(await answer))
    except grpc.aio.AioRpcError as error:
        return replace(refused(error, said, time.perf_counter() - began), foreseen=foreseen(method, body))
    return Outcome(StatusCode.OK, "OK", "", said, time.perf_counter() - began)


async def read(stream: Any, method: Method, most: int, said: list[Message]) -> None:
    """A stream begins at once, if only with its metadata: there may be nothing to say for long."""
    begun = not most
    try:
        if most:
            begun = await asyncio.wait_for(stream.initial_metadata(), DEADLINE_S) is not None
        while len(said) < most:
            raw = await asyncio.wait_for(stream.read(), QUIET_S)
            if raw is grpc.aio.EOF:
                return
            said.append(method.answer.FromString(raw))
        await asyncio.sleep(0)
    except TimeoutError:
        assert begun, f"{method} did not begin within {DEADLINE_S:.0f} s"
    finally:
        stream.cancel()


def refused(error: grpc.aio.AioRpcError, said: list[Message], took_s: float) -> Outcome:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            refusal = refusal_of(status_pb2.Status.FromString(value))
            field = refusal.metadata.get("field", "")
            return Outcome(error.code(), refusal.reason, field, said, took_s, refusal.message)
    return Outcome(error.code(), "", "", said, took_s, error.details() or "")


async def each(items: Iterable[T], deed: Callable[[T], Awaitable[None]]) -> None:
    """Do it with all of them, a few at a time."""
    rest = iter(list(items))

    async def worker() -> None:
        for item in rest:
            await deed(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
