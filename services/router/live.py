"""How each model is doing: its wait, its failures, its queue. In this room's memory; another room learns for itself."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.errors import Exhausted
from services.router.offers import Figures, Limits, Offer

REMEMBERED = 32
OPENS_AFTER = 3
REST_S = 10.0
LONGEST_REST_S = 120.0


@dataclass(slots=True)
class Circuit:
    """Opens after three failures in a row; then one call at a time tries whether the model is back."""

    failures: int = 0
    rest_s: float = REST_S
    open_until: float = 0.0
    probing: bool = False

    def closed(self, now: float) -> str:
        """Why nothing may be asked now; empty when it may."""
        left_s = self.open_until - now
        if left_s > 0 and self.failures >= OPENS_AFTER:
            return f"It failed {self.failures} times in a row and rests for {left_s:.0f} more seconds."
        if left_s > 0:
            return f"Its provider asked for a pause of {left_s:.0f} more seconds."
        return "It failed lately and is being tried again." if self.probing else ""

    def begin(self) -> bool:
        """A call goes out. True when it is the one that tries after a rest."""
        tries = self.failures >= OPENS_AFTER and not self.probing
        self.probing = self.probing or tries
        return tries

    def worked(self) -> None:
        self.failures, self.rest_s, self.open_until = 0, REST_S, 0.0

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= OPENS_AFTER:
            self.open_until = now + self.rest_s
            self.rest_s = min(self.rest_s * 2, LONGEST_REST_S)

    def pause(self, until: float) -> None:
        """The provider said when to come back."""
        self.open_until = max(self.open_until, until)


@dataclass(slots=True)
class Lane:
    """The calls of one model: some run, some wait in order, the next one is refused."""

    limits: Limits
    circuit: Circuit = field(default_factory=Circuit)
    waits_ms: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    taken: int = 0
    running: asyncio.Semaphore = field(init=False)
    most: int = field(init=False)
    """Calls that run and wait."""
    median_ms: int | None = None
    calm: Figures = field(default_factory=Figures)
    """What there is to say of it while nothing is amiss."""

    def __post_init__(self) -> None:
        self.running = asyncio.Semaphore(self.limits.running)
        self.most = self.limits.running + self.limits.queued

    @property
    def is_full(self) -> bool:
        return self.taken >= self.most

    @property
    def retry_after_s(self) -> float:
        """About how long until a queue as full as this one has moved by a place."""
        return min(30.0, max(1.0, 2 * (self.median_ms or 500) / 1000 * self.limits.queued / self.limits.running))

    def first_text_after(self, ms: int) -> None:
        self.waits_ms.append(ms)
        self.median_ms = round(statistics.median(self.waits_ms))
        self.calm = Figures(self.median_ms)


class Place:
    """A place that one call has taken in a lane, to be given back once."""

    __slots__ = ("_given_back", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._given_back = False
        lane.taken += 1

    def give_back(self) -> None:
        if not self._given_back:
            self._given_back = True
            self.lane.taken -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Lane]:
        """Wait until the model has time, at most as long as the queue allows. Raises Exhausted MODEL_BUSY."""
        try:
            async with asyncio.timeout(self.lane.limits.queue_s):
                await self.lane.running.acquire()
        except TimeoutError:
            message = f"The model had no time within {self.lane.limits.queue_s:.0f} seconds."
            raise Exhausted("MODEL_BUSY", message, retry_after_s=self.lane.retry_after_s) from None
        tries = self.lane.circuit.begin()
        try:
            yield self.lane
        finally:
            if tries:
                self.lane.circuit.probing = False
            self.lane.running.release()


class Live:
    """The lanes of all offers. A changed bound begins a new lane; calls of the old one end in it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._lanes: dict[tuple[str, str], Lane] = {}

    def lane(self, offer: Offer) -> Lane:
        lane = self._lanes.get(offer.key)
        if lane is None or (lane.limits is not offer.provider.limits and lane.limits != offer.provider.limits):
            lane = self._lanes[offer.key] = Lane(offer.provider.limits)
        return lane

    def figures(self, offer: Offer) -> Figures:
        lane = self.lane(offer)
        circuit = lane.circuit
        if not circuit.open_until and not circuit.probing and not lane.is_full:
            return lane.calm
        return Figures(lane.median_ms, circuit.closed(self.monotonic()), lane.is_full, lane.retry_after_s)

    def take(self, offer: Offer) -> Place | None:
        """A place in the offer's lane, running or waiting; None when it is full."""
        lane = self.lane(offer)
        return None if lane.is_full else Place(lane)

    def keep_only(self, offers: tuple[Offer, ...]) -> None:
        """Forget the lanes of offers that are gone."""
        keys = {offer.key for offer in offers}
        self._lanes = {key: lane for key, lane in self._lanes.items() if key in keys}
