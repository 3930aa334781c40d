"""What was counted in the last five minutes, in slots of ten seconds: here, and by the other routers. Pure: who calls
`roll` says which slot it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from services.router.live.tally import Histogram, Tally, add_to, sum_of

SLOT_S = 10
SLOTS = 30
"""The window."""
LATE_SLOTS = 6
"""What a decision goes by, where there was a call in them."""
MOST_MODELS = 512
"""Counted in one slot."""

Page = dict[str, Tally]
"""By "provider/model"."""


class Recent:
    """Bounded: SLOTS pages of MOST_MODELS each of ours, as many of all others together."""

    def __init__(self, slot: int = 0) -> None:
        self.slot = slot
        self.ours: dict[int, Page] = {}
        self.theirs: dict[int, Page] = {}
        self.untold: set[int] = set()
        """The slots of ours that have grown since they were last told."""

    def tally(self, name: str) -> Tally:
        """Ours of this slot, to be added to."""
        page = self.ours.setdefault(self.slot, {})
        self.untold.add(self.slot)
        tally = page.get(name)
        if tally is None:
            tally = Tally()
            if len(page) < MOST_MODELS:
                page[name] = tally
        return tally

    def roll(self, slot: int) -> None:
        """It is that slot now; what lies outside the window is forgotten. A clock that was set back into the one before
        is waited for."""
        if slot not in (self.slot, self.slot - 1):
            self.slot = slot
            window = range(slot - SLOTS + 1, slot + 1)
            self.ours = {slot: page for slot, page in self.ours.items() if slot in window}
            self.theirs = {slot: page for slot, page in self.theirs.items() if slot in window}
            self.untold &= self.ours.keys()

    def shift(self, by: int) -> None:
        """The slots are numbered anew: what we counted keeps its age, what others did has to be heard again."""
        self.slot += by
        self.ours = {slot + by: page for slot, page in self.ours.items()}
        self.untold = {slot + by for slot in self.untold}
        self.theirs = {}

    def hear(self, slot: int, pages: Iterable[Mapping[str, Tally]]) -> None:
        """What all others counted in a slot."""
        together: Page = {}
        for page in pages:
            for name, tally in page.items():
                if name in together:
                    together[name].add(tally)
                elif len(together) < MOST_MODELS:
                    together[name] = tally
        self.theirs[slot] = together

    def total(self, name: str) -> Tally:
        """Over the window."""
        return sum_of(self._tallies(name, SLOTS))

    def first_texts(self, name: str) -> Histogram:
        """The times to the first text of the last minute; of the whole window where the minute had none."""
        for slots in (LATE_SLOTS, SLOTS):
            times: Histogram = {}
            for tally in self._tallies(name, slots):
                add_to(times, tally.first)
            if times:
                return times
        return {}

    def _tallies(self, name: str, slots: int) -> Iterator[Tally]:
        for pages in (self.ours, self.theirs):
            for slot in range(self.slot, self.slot - slots, -1):
                page = pages.get(slot)
                tally = page.get(name) if page else None
                if tally is not None:
                    yield tally
