"""The lanes of all offers, and how each is doing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

from services.common.cache import Cache
from services.common.telemetry import Sight
from services.router.live.circuit import Circuit
from services.router.live.lanes import Alone, Lane, Place, Whole, bounds_of
from services.router.live.recent import SLOT_S, Recent
from services.router.live.sharing import Sharing
from services.router.live.tally import Ended, Standing, standing_of
from services.router.offers import Figures, Offer

EVERY_S = 0.5
"""Told here in that time, heard there in that time: within a second."""
MOST_SEEN = 4096


class Live:
    """A changed bound begins a new lane; calls of the old one end in it, and its circuit goes on. With a cache it is
    one with those of the other routers, as far as `keep` runs."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, cache: Cache | None = None) -> None:
        self.monotonic = monotonic
        self.sharing = Sharing(cache, uuid.uuid4().bytes, monotonic) if cache else None
        self.recent = Recent(self._slot())
        self._lanes: dict[str, Lane] = {}
        self._wholes: dict[str, Whole] = {}
        self._seen: dict[int, tuple[Offer, Lane]] = {}
        """By identity, which holds while the offer is held here: a decision asks for each of its offers."""
        self._shown: set[str] = set()

    def figures(self, offer: Offer) -> Figures:
        seen = self._seen.get(id(offer))
        lane = seen[1] if seen else self.lane(offer)
        whole = lane.whole
        if lane.circuit.is_amiss or lane.taken >= lane.most or whole.taken >= whole.most:
            return lane.figures()
        return lane.calm

    def standing(self, offer: Offer) -> Standing:
        """Of the last five minutes, over all routers that are heard."""
        lane = self.lane(offer)
        lane.gather()
        return standing_of(self.recent.total(lane.name))

    @property
    def is_shared(self) -> bool:
        """The other routers are heard."""
        return self.sharing is not None and self.sharing.is_shared

    def ended(self, offer: Offer, ended: Ended) -> None:
        """An answer of the model has ended, well or not. Once an answer."""
        self.recent.tally(offer.name).ended(ended)

    def take(self, offer: Offer) -> Place | None:
        """A place in the offer's lane, running or waiting; None when it is full."""
        lane = self.lane(offer)
        return None if lane.is_full else Place(lane)

    def lane(self, offer: Offer) -> Lane:
        seen = self._seen.get(id(offer))
        if seen is not None:
            return seen[1]
        lane = self._lanes.get(offer.name)
        if lane is None or lane.limits != offer.provider.limits:
            lane = self._renew(offer, lane.circuit if lane else Circuit())
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[id(offer)] = offer, lane
        return lane

    def keep_only(self, offers: tuple[Offer, ...]) -> None:
        """Forget the lanes of offers that are gone."""
        names = {offer.name for offer in offers}
        providers = {offer.provider.name for offer in offers}
        self._lanes = {name: lane for name, lane in self._lanes.items() if name in names}
        self._wholes = {name: whole for name, whole in self._wholes.items() if name in providers}
        self._seen.clear()

    async def keep(self, sight: Sight) -> None:
        """Let the figures grow old, tell and hear, until cancelled."""
        while True:
            await self.beat()
            self.show(sight)
            await asyncio.sleep(EVERY_S)

    async def beat(self) -> None:
        for lane in self._lanes.values():
            lane.gather()
        if self.sharing:
            await self.sharing.round(self.recent, self._lanes)
        else:
            self.recent.roll(self._slot())
        for lane in self._lanes.values():
            lane.look()

    def show(self, sight: Sight) -> None:
        """As metrics."""
        sight.live_shared.set(self.is_shared)
        now = self.monotonic()
        closed = {name for name, lane in self._lanes.items() if lane.circuit.is_amiss and lane.circuit.closed(now)}
        for name in closed - self._shown:
            sight.model_closed.labels(*name.split("/", 1)).set(1)
        for name in self._shown - closed:
            sight.model_closed.remove(*name.split("/", 1))
        self._shown = closed

    def _slot(self) -> int:
        return self.sharing.slot() if self.sharing else int(self.monotonic() // SLOT_S)

    def _renew(self, offer: Offer, circuit: Circuit) -> Lane:
        limits, name = offer.provider.limits, offer.provider.name
        whole = self._wholes.get(name)
        if whole is None or whole.bounds != bounds_of(limits):
            whole = self._wholes[name] = Whole(limits)
        lane = Lane(offer.name, limits, self.recent, whole, self.sharing or Alone(), self.monotonic, circuit)
        lane.look()
        self._lanes[offer.name] = lane
        self._seen.clear()
        return lane
