"""Whether a model may be asked: it rests after failures in a row, and as long as its provider wants to be left alone.
Pure: `now` is a monotonic time in seconds."""

from __future__ import annotations

from dataclasses import dataclass

OPENS_AFTER = 3
REST_S = 10.0
LONGEST_REST_S = 120.0
LONGEST_PAUSE_S = 300.0


@dataclass(slots=True)
class Circuit:
    """Opens after three failures in a row; then one call at a time tries whether the model is back."""

    failures: int = 0
    rest_s: float = REST_S
    """How long the next rest is."""
    open_until: float = 0.0
    paused_until: float = 0.0
    probing: bool = False
    """A call of this router tries."""
    tried_elsewhere: bool = False
    """A call of another router tries."""
    is_amiss: bool = False
    """`closed` has something to say, or had."""
    turned: bool = False
    """It opened, closed or paused by a call of this router, and no other was told."""
    stamp: int = 0
    """Of the newest turn that is known, whoever's it was: the larger one is the newer one."""
    good: int = 0
    bad: int = 0
    pauses: int = 0
    """Calls that worked, that failed, that were told to come later, and were not gathered yet."""

    @property
    def is_open(self) -> bool:
        """It rests, or is to be tried."""
        return self.failures >= OPENS_AFTER

    def closed(self, now: float) -> str:
        """Why nothing may be asked now; empty when it may."""
        rest_s, pause_s = self.open_until - now, self.paused_until - now
        if self.is_open and rest_s > 0:
            return f"It failed {self.failures} times in a row and rests for {rest_s:.0f} more seconds."
        if pause_s > 0:
            return f"Its provider asked for a pause of {pause_s:.0f} more seconds."
        if self.is_open and (self.probing or self.tried_elsewhere):
            return "It failed lately and is being tried again."
        self.is_amiss = self.is_open
        return ""

    def worked(self) -> None:
        """A call has come to its end. A pause goes on: the provider knows best."""
        self.good += 1
        if self.failures:
            self.turned = self.turned or self.is_open
            self._close()

    def failed(self, now: float) -> None:
        """Those that began before it opened, and fail while it rests, make the rest no longer."""
        self.bad += 1
        self.failures += 1
        if self.is_open and now >= self.open_until:
            self.open_until = now + self.rest_s
            self.rest_s = min(self.rest_s * 2, LONGEST_REST_S)
            self.is_amiss = self.turned = True

    def pause(self, until: float) -> None:
        """The provider said when to come back."""
        self.pauses += 1
        if until > self.paused_until:
            self.paused_until = until
            self.is_amiss = self.turned = True

    def hear_open(self, failures: int, rest_s: float, until: float) -> None:
        """Another router's calls have opened it."""
        self.failures, self.rest_s, self.open_until = failures, rest_s, until
        self.is_amiss = True

    def hear_closed(self) -> None:
        """A call of another router has worked."""
        if self.is_open:
            self._close()

    def hear_pause(self, until: float) -> None:
        """Another router was asked for a pause."""
        self.paused_until = max(self.paused_until, until)
        self.is_amiss = True

    def _close(self) -> None:
        self.failures, self.rest_s, self.open_until, self.tried_elsewhere = 0, REST_S, 0.0, False
        self.is_amiss = self.paused_until > 0
