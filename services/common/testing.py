"""Doubles and short ways for tests, imported by tests only. What a double does, tests/doors proves of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import grpc
from google.rpc import status_pb2
from grpc.aio import AioRpcError

from services.common import lines
from services.common.errors import Refusal, refusal_of
from services.common.lines import Line


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@contextmanager
def lines_said() -> Iterator[list[Line]]:
    """The lines of the log that this process says inside. They go nowhere else."""
    log, said = lines.log(), list[Line]()
    before = log.take, log.always
    lines.begin(said.append)
    try:
        yield said
    finally:
        log.take, log.always = before


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[list[Refusal]]:
    """The call inside must be refused with this code and this reason; yields a list that will hold the refusal."""
    held: list[Refusal] = []
    try:
        yield held
    except AioRpcError as error:
        refusal = sent(error)
        assert (error.code(), refusal.reason) == (code, reason), f"{error.code()} {refusal.reason}: {error.details()}"
        held.append(refusal)
    else:
        raise AssertionError(f"not refused, though {reason} was due")


def sent(error: AioRpcError) -> Refusal:
    """The refusal that came with a status."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            return refusal_of(status_pb2.Status.FromString(value))
    raise AssertionError(f"a status without details: {error.code()} {error.details()}")
