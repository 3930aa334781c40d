"""What routers tell each other through Valkey, beside the calls: what they counted, which circuits turned, who tries.

A slot is a hash of its own, `{live}:1:slot:N`, in which each router has one field that it writes anew: a write that is
repeated, or whose answer is lost, counts nothing twice. The slot's number and all times are Valkey's, whose clock is
asked each time: those of the routers need not agree. All keys expire by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import msgspec

from services.common.cache import Cache, Words, released
from services.common.errors import Unavailable
from services.common.telemetry import log
from services.router.live.circuit import LONGEST_PAUSE_S, LONGEST_REST_S, OPENS_AFTER, Circuit
from services.router.live.lanes import Lane
from services.router.live.recent import SLOT_S, SLOTS, Recent
from services.router.live.tally import Count, Tally

ROUND_S = 1.0
"""The longest that telling and hearing may take."""
CLAIM_S = 0.25
LEASE_S = 5
"""A try whose router is gone is over after that."""
KEPT_S = (SLOTS + 2) * SLOT_S
NOTICE_S = 60
"""How long a turn is told of. A router that hears nothing for that long goes by its own calls."""
MOST_HEARD = 256
"""Routers of one slot."""
MOST_KNOWN = 1 << 14
PREFIX = "{live}:1:"

Rest = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_REST_S)]
Slot: TypeAlias = Mapping[bytes, bytes]


class Notice(msgspec.Struct, array_like=True, frozen=True):
    """How a circuit turned. Times are Valkey's, in milliseconds."""

    stamp: Count
    failures: Count
    rest_s: Rest
    open_until: Count
    paused_until: Count


class Told(msgspec.Struct, array_like=True):
    """One router's field of a slot, by "provider/model"."""

    page: dict[str, Tally] = {}
    notices: dict[str, Notice] = {}


DECODE: Callable[[bytes], Told] = msgspec.msgpack.Decoder(Told).decode
ENCODE = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Sharing:
    """One router's part. While Valkey is away nothing waits for it, and what was heard before grows old."""

    cache: Cache
    me: bytes
    """A name that no other router has, and none had lately."""
    monotonic: Callable[[], float]
    is_shared: bool = False
    """The last round came through."""
    _has_tried: bool = False
    _ahead_s: float = 0.0
    """Valkey's clock, less the monotonic one."""
    _read_to: int | None = None
    """The newest slot that was read; None: all have to be."""
    _notices: dict[str, Notice] = field(default_factory=dict)
    _known: dict[tuple[bytes, str], int] = field(default_factory=dict)
    """The newest stamp of each router's notices."""
    _slots: dict[int, Slot] = field(default_factory=dict)
    """As they were read in the last round."""
    _tries: set[str] = field(default_factory=set)
    _over: set[str] = field(default_factory=set)
    """Tries to be given up in the next round."""

    def slot(self) -> int:
        """Of this moment, by Valkey's clock as far as it is known."""
        return int((self.monotonic() + self._ahead_s) // SLOT_S)

    async def round(self, recent: Recent, lanes: Mapping[str, Lane]) -> None:
        """Tell and hear once. What goes wrong is logged, once."""
        try:
            async with asyncio.timeout(ROUND_S):
                await self._round(recent, lanes)
        except (Unavailable, TimeoutError) as away:
            if self.is_shared or not self._has_tried:
                log().warning("live figures are this router's own: Valkey is away", why=repr(away.__cause__ or away))
            self.is_shared, self._has_tried = False, True
            recent.roll(self.slot())
            for lane in lanes.values():
                lane.circuit.tried_elsewhere = False
        else:
            if not self.is_shared:
                log().info("live figures are shared")
            self.is_shared = self._has_tried = True

    async def claim(self, name: str) -> bool:
        """Whether a call of this router may try the model, for as long as nobody else does."""
        held = None
        if self.is_shared:
            try:
                async with asyncio.timeout(CLAIM_S):
                    held = await self.cache.claim(trial(name), self.me, LEASE_S)
            except (Unavailable, TimeoutError):
                pass
            except BaseException:
                self._over.add(name)
                raise
        if held not in (None, self.me):
            return False
        self._tries.add(name)
        self._over.discard(name)
        return True

    def release(self, name: str) -> None:
        if name in self._tries:
            self._tries.discard(name)
            self._over.add(name)

    async def _round(self, recent: Recent, lanes: Mapping[str, Lane]) -> None:
        now_ms = await self.cache.time_ms()
        self._set_clock(now_ms, recent, lanes)
        self._notice(now_ms, lanes)
        slots = self._to_read(recent.slot)
        amiss = [lane for lane in lanes.values() if lane.circuit.is_open]
        untold, over = recent.untold, self._over
        words: list[Words] = [("HGETALL", slot_key(slot)) for slot in slots]
        words += [("GET", trial(lane.name)) for lane in amiss]
        telling: list[Words] = [w for slot in sorted(untold | self._noted(recent)) for w in self._words(recent, slot)]
        telling += [w for name in sorted(self._tries) for w in held(name, self.me)]
        telling += [released(trial(name), self.me) for name in sorted(over)]
        recent.untold, self._over = set(), set()
        try:
            answers = (await self.cache.together([*telling, *words]))[len(telling) :]
        except BaseException:
            recent.untold |= untold
            self._over |= over - self._tries
            raise
        self._hear(dict(zip(slots, answers, strict=False)), now_ms, recent, lanes)
        for lane, holder in zip(amiss, answers[len(slots) :], strict=True):
            lane.circuit.tried_elsewhere = holder not in (None, self.me)
        self._read_to = recent.slot

    def _set_clock(self, now_ms: int, recent: Recent, lanes: Mapping[str, Lane]) -> None:
        """By Valkey's. When that was set, by more than half a slot, slots are numbered anew, and circuits that are
        amiss are told again."""
        before, leap_s = self.slot(), now_ms / 1000 - self.monotonic() - self._ahead_s
        self._ahead_s += leap_s
        if abs(leap_s) > SLOT_S / 2:
            recent.shift(self.slot() - before)
            self._read_to, self._notices, self._known, self._slots = None, {}, {}, {}
            for lane in lanes.values():
                lane.circuit.stamp, lane.circuit.turned = 0, lane.circuit.is_amiss
        recent.roll(self.slot())

    def _notice(self, now_ms: int, lanes: Mapping[str, Lane]) -> None:
        """What turned here since the last round, and what is still to be told of."""
        self._notices = {
            name: notice for name, notice in self._notices.items() if now_ms - notice.stamp < NOTICE_S * 1000
        }
        now = self.monotonic()
        for name, lane in lanes.items():
            circuit = lane.circuit
            if circuit.turned:
                circuit.turned = False
                circuit.stamp = max(now_ms, circuit.stamp + 1)
                self._notices[name] = notice_of(circuit, now_ms, now)

    def _noted(self, recent: Recent) -> set[int]:
        return {recent.slot} if self._notices else set()

    def _to_read(self, slot: int) -> Sequence[int]:
        """The present slot, those beside it, where another may just have written, and those that were missed."""
        oldest = slot - SLOTS + 1
        return range(oldest if self._read_to is None else max(oldest, min(self._read_to, slot) - 1), slot + 2)

    def _words(self, recent: Recent, slot: int) -> Sequence[Words]:
        told = Told(recent.ours.get(slot, {}), self._notices if slot == recent.slot else {})
        key = slot_key(slot)
        return ("HSET", key, self.me, ENCODE(told)), ("EXPIRE", key, KEPT_S)

    def _hear(
        self, found: Mapping[int, dict[bytes, bytes]], now_ms: int, recent: Recent, lanes: Mapping[str, Lane]
    ) -> None:
        for slot, fields in found.items():
            fields.pop(self.me, None)
            if fields == self._slots.get(slot):
                continue
            told = {router: told for router in sorted(fields)[:MOST_HEARD] if (told := read(fields[router]))}
            recent.hear(slot, [one.page for one in told.values()])
            for router, one in told.items():
                for name, notice in one.notices.items():
                    if name in lanes:
                        self._heed(router, lanes[name], notice, now_ms)
        self._slots = dict(found)

    def _heed(self, router: bytes, lane: Lane, notice: Notice, now_ms: int) -> None:
        """Each notice once. One from beyond now was told before the clock was set."""
        is_beyond = notice.stamp > now_ms + NOTICE_S * 1000
        if is_beyond or notice.stamp <= self._known.get((router, lane.name), -1):
            return
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[router, lane.name] = notice.stamp
        heed(lane.circuit, notice, now_ms, self.monotonic())


def notice_of(circuit: Circuit, now_ms: int, now: float) -> Notice:
    return Notice(
        circuit.stamp,
        circuit.failures if circuit.is_open else 0,
        circuit.rest_s,
        now_ms + max(0, round((circuit.open_until - now) * 1000)),
        now_ms + max(0, round((circuit.paused_until - now) * 1000)),
    )


def heed(circuit: Circuit, notice: Notice, now_ms: int, now: float) -> None:
    """Of pauses the longest holds, of openings and closings the newest."""
    pause_s = min(LONGEST_PAUSE_S, (notice.paused_until - now_ms) / 1000)
    if pause_s > 0:
        circuit.hear_pause(now + pause_s)
    if circuit.turned or notice.stamp <= circuit.stamp:
        return
    circuit.stamp = notice.stamp
    if notice.failures >= OPENS_AFTER:
        left_s = min(LONGEST_REST_S, max(0.0, (notice.open_until - now_ms) / 1000))
        circuit.hear_open(notice.failures, notice.rest_s, now + left_s)
    else:
        circuit.hear_closed()


def read(told: bytes) -> Told | None:
    """None for what another version, or a stranger, has written."""
    try:
        return DECODE(told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def held(name: str, me: bytes) -> Sequence[Words]:
    """A try goes on."""
    key = trial(name)
    return ("SET", key, me, "NX", "EX", LEASE_S), ("EXPIRE", key, LEASE_S)


def slot_key(slot: int) -> str:
    return f"{PREFIX}slot:{slot}"


def trial(name: str) -> str:
    return f"{PREFIX}try:{name}"
