"""The calls of one model, and their places: some run, some wait in order, the next one is refused.

These bounds are this router's own: each replica has its own connections and its own queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.common.errors import Exhausted
from services.router.live.circuit import Circuit
from services.router.live.recent import Recent
from services.router.live.tally import Histogram, bucket_of, count, percentile
from services.router.offers import Figures, Limits

UNBOUNDED = 1 << 30
TRY_AGAIN_S = 1.0


class Trials(Protocol):
    """Who may try a model that failed, among all routers."""

    async def claim(self, name: str, /) -> bool:
        """Whether the call may try. It waits a moment at the most, and says yes when nobody can be asked."""
        ...

    def release(self, name: str, /) -> None:
        """The try is over, or never began."""
        ...


class Alone:
    """There is no other router."""

    async def claim(self, _name: str, /) -> bool:
        return True

    def release(self, _name: str, /) -> None:
        pass


class Whole:
    """All calls to one provider, whatever the model."""

    __slots__ = ("bounds", "most", "running", "taken")

    def __init__(self, limits: Limits) -> None:
        self.bounds = bounds_of(limits)
        bound = limits.running_total or UNBOUNDED
        self.running = asyncio.Semaphore(bound)
        self.most = bound + limits.queued
        self.taken = 0


def bounds_of(limits: Limits) -> tuple[int | None, int]:
    return limits.running_total, limits.queued


@dataclass(slots=True, eq=False)
class Lane:
    """The calls of one model at one provider."""

    name: str
    limits: Limits
    recent: Recent
    whole: Whole
    trials: Trials
    monotonic: Callable[[], float]
    circuit: Circuit = field(default_factory=Circuit)
    taken: int = 0
    running: asyncio.Semaphore = field(init=False)
    most: int = field(init=False)
    """Calls that run and wait."""
    first_texts: Histogram = field(default_factory=dict)
    """What `calm` is made from."""
    calm: Figures = field(default_factory=Figures)
    """What there is to say of it while nothing is amiss."""

    def __post_init__(self) -> None:
        self.running = asyncio.Semaphore(self.limits.running)
        self.most = self.limits.running + self.limits.queued

    @property
    def is_full(self) -> bool:
        return self.taken >= self.most or self.whole.taken >= self.whole.most

    @property
    def retry_after_s(self) -> float:
        """About how long until a queue as full as this one has moved by a place."""
        return min(30.0, max(1.0, 2 * (self.calm.latency_ms or 500) / 1000 * self.limits.queued / self.limits.running))

    def figures(self) -> Figures:
        return Figures(self.calm.latency_ms, self.circuit.closed(self.monotonic()), self.is_full, self.retry_after_s)

    def first_text_after(self, ms: int) -> None:
        bucket = bucket_of(ms)
        count(self.recent.tally(self.name).first, bucket)
        count(self.first_texts, bucket)
        self.calm = Figures(percentile(self.first_texts, 0.5))

    def gather(self) -> None:
        """Count what the circuit has seen since the last time."""
        circuit = self.circuit
        if circuit.good or circuit.bad or circuit.pauses:
            tally = self.recent.tally(self.name)
            tally.worked += circuit.good
            tally.failed += circuit.bad
            tally.limited += circuit.pauses
            circuit.good = circuit.bad = circuit.pauses = 0

    def look(self) -> None:
        """Go by what is known now of the last minute."""
        times = self.recent.first_texts(self.name)
        if times != self.first_texts:
            self.first_texts = times
            self.calm = Figures(percentile(times, 0.5))

    async def enter(self) -> None:
        """Wait until the model and its provider have time. Raises Exhausted MODEL_BUSY."""
        if not self.running.locked() and not self.whole.running.locked():
            return await self._enter()  # at once: no timer is needed
        try:
            async with asyncio.timeout(self.limits.queue_s):
                await self._enter()
        except TimeoutError:
            message = f"The model had no time within {self.limits.queue_s:.0f} seconds."
            raise Exhausted("MODEL_BUSY", message, retry_after_s=self.retry_after_s) from None
        return None

    async def _enter(self) -> None:
        await self.running.acquire()
        try:
            await self.whole.running.acquire()
        except BaseException:
            self.running.release()
            raise

    def leave(self) -> None:
        self.whole.running.release()
        self.running.release()

    async def tries(self) -> bool:
        """Whether the call, whose turn has come, is the one that tries the model. Raises Exhausted MODEL_BUSY when the
        circuit has opened meanwhile, or when another call tries."""
        circuit = self.circuit
        if closed := circuit.closed(self.monotonic()):
            raise Exhausted("MODEL_BUSY", closed, retry_after_s=TRY_AGAIN_S)
        if not circuit.is_open:
            return False
        circuit.probing = True
        try:
            if not await self.trials.claim(self.name):
                circuit.tried_elsewhere = True
                raise Exhausted("MODEL_BUSY", circuit.closed(self.monotonic()), retry_after_s=TRY_AGAIN_S)
        except BaseException:
            self.tried()
            raise
        return True

    def tried(self) -> None:
        self.circuit.probing = False
        self.trials.release(self.name)


class Place:
    """A place that one call has taken in a lane, to be given back once."""

    __slots__ = ("_given_back", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._given_back = False
        lane.taken += 1
        lane.whole.taken += 1

    def give_back(self) -> None:
        if not self._given_back:
            self._given_back = True
            self.lane.taken -= 1
            self.lane.whole.taken -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Lane]:
        """Wait until the model has time, at most as long as the queue allows. Raises Exhausted MODEL_BUSY, also when
        the model is closed by then."""
        lane = self.lane
        await lane.enter()
        try:
            tries = lane.circuit.is_amiss and await lane.tries()
            try:
                yield lane
            finally:
                if tries:
                    lane.tried()
        finally:
            lane.leave()
