"""How models do, over all routers: told and heard through a real Valkey, which comes and goes."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common.background import alongside
from services.common.cache import Cache, open_cache
from services.common.errors import Exhausted
from services.common.spans import Tracer
from services.common.telemetry import Sight
from services.common.testing import lines_said
from services.local import valkey
from services.local.ports import free_port
from services.router.live import Ended, Live, Place, Standing, sharing
from services.router.live.circuit import OPENS_AFTER, REST_S
from services.router.live.recent import SLOT_S, SLOTS
from services.router.live.sharing import LEASE_S, ROUND_S, slot_key, trial
from services.router.offers import Limits, Offer, Price, Provider
from tests.stores import running

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_S = 20.0
SOON_S = 2.0
GONE = -2
"""Valkey's, for the time left to a key that is not there."""
LIMITS = Limits(running=64, queued=64)


def offer(model: str) -> Offer:
    return Offer(Provider("acme", "openai", limits=LIMITS), model, "slm", Price(0, 0), 4096, 512, 400)


class Hand:
    """A monotonic clock that goes on from where it was set: of a machine that has run for hours, so that it never falls
    below zero."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def __call__(self) -> float:
        return 10_000 + time.monotonic() + self.ahead_s


@dataclass(frozen=True, slots=True)
class SetClock(Cache):
    """The real Valkey, whose clock was set."""

    clock: Hand

    async def time_ms(self) -> int:
        return await Cache.time_ms(self) + round(self.clock.ahead_s * 1000)


@dataclass(frozen=True, slots=True)
class Stopping(Cache):
    """The real Valkey, which is stopped when it has told the time."""

    pid: int

    async def time_ms(self) -> int:
        now_ms = await Cache.time_ms(self)
        os.kill(self.pid, signal.SIGSTOP)
        return now_ms


@dataclass
class Store:
    """A Valkey that can be killed, and started again with what it had."""

    folder: Path
    port: int
    password: str = "none-that-matters"

    @property
    def url(self) -> str:
        return valkey.url(self.port, self.password)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        settings = self.folder.with_suffix(".conf")
        valkey.prepare(self.folder, settings, self.port, self.password)
        async with running(valkey.command(settings), valkey.ready(self.port, self.password), signal.SIGTERM):
            yield

    async def pid(self) -> int:
        async with open_cache(self.url) as cache:
            return int((await cache.redis.info("server"))["process_id"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    store = Store(tmp_path_factory.mktemp("live") / "valkey", free_port())
    async with store.runs():
        yield store


@pytest.fixture(autouse=True)
def patient_rounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where a test stops its Valkey."""
    if "store" not in inspect.signature(request.function).parameters:
        monkeypatch.setattr(sharing, "ROUND_S", WITHIN_S)


@pytest_asyncio.fixture(loop_scope="module")
async def cache(store: Store) -> AsyncIterator[Cache]:
    async with open_cache(store.url) as cache:
        yield cache


async def beat(*lives: Live) -> None:
    for live in lives:
        await live.beat()


def answer(live: Live, one: Offer, first_ms: int = 100, total_ms: int = 1100) -> None:
    """One that is whole."""
    live.lane(one).first_text_after(first_ms)
    live.lane(one).circuit.worked()
    live.ended(one, Ended(first_ms, total_ms, output_tokens=50, cost_microusd=3, ok=True))


def fail(live: Live, one: Offer) -> None:
    for _ in range(OPENS_AFTER):
        live.lane(one).circuit.failed(live.monotonic())


def take(live: Live, one: Offer) -> Place:
    place = live.take(one)
    assert place is not None
    return place


async def until(holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def keeping(*lives: Live) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for live in lives:
            sight = Sight(Tracer(0.0), CollectorRegistry())
            await stack.enter_async_context(alongside(live.keep(sight), name="live"))
        yield


async def test_two_routers_agree_within_two_seconds(cache: Cache) -> None:
    """Once in five tries: on a machine that stands still meanwhile no router is quick."""
    ours, theirs = Live(Hand(), cache), Live(Hand(40_000.0), cache)
    async with keeping(ours, theirs):
        for n in range(5):
            with suppress(TimeoutError):
                await until_agreed(ours, theirs, offer(f"agreed {n}"))
                return
    pytest.fail("they never agreed within two seconds")


async def until_agreed(ours: Live, theirs: Live, one: Offer) -> None:
    for n in range(20):
        answer(ours, one, 100 + n)
        answer(theirs, one, 3000 + n)
    await until(lambda: ours.standing(one) == theirs.standing(one) and ours.standing(one).calls == 40, SOON_S)
    now = ours.standing(one)
    assert (now.spend_microusd, now.error_rate) == (120, 0.0)
    assert now.first_p50_ms is not None and now.first_p95_ms is not None
    assert now.first_p50_ms < 150 < 2500 < now.first_p95_ms
    await until(lambda: ours.figures(one) == theirs.figures(one), SOON_S)


async def test_a_router_that_begins_hears_what_the_others_counted_before(cache: Cache) -> None:
    first, one = Live(cache=cache), offer("before")
    answer(first, one)
    fail(first, one)
    await beat(first)
    clock = Hand()
    second = Live(clock, SetClock(cache.redis, clock))
    second.lane(one)
    clock.ahead_s = SLOT_S * (SLOTS - 2)
    await beat(second)
    assert second.standing(one) == first.standing(one)
    assert "rests" not in second.figures(one).closed, "its rest has long been over"
    assert second.lane(one).circuit.is_open, "but nobody has tried it since"


async def test_what_is_written_twice_counts_once(cache: Cache) -> None:
    ours, theirs, one = Live(cache=cache), Live(cache=cache), offer("twice")
    answer(ours, one)
    for _ in range(3):
        ours.recent.untold = set(ours.recent.ours)  # as after a write whose answer was lost
        await beat(ours, theirs)
    assert theirs.standing(one).calls == 1


async def test_what_is_told_at_the_end_of_a_slot_is_heard_in_the_next(cache: Cache) -> None:
    clock = Hand()
    shared = SetClock(cache.redis, clock)
    ours, theirs, one = Live(clock, shared), Live(clock, shared), offer("edge")
    await beat(theirs)
    for n in range(1, 4):
        answer(ours, one)
        await beat(ours)
        clock.ahead_s += SLOT_S
        await beat(theirs)
        assert theirs.standing(one).calls == n


async def test_a_circuit_that_one_opened_is_closed_to_the_others_and_a_success_opens_it_to_all(cache: Cache) -> None:
    ours, theirs, one = Live(Hand(), cache), Live(Hand(-900.0), cache), offer("broken")
    theirs.lane(one)
    async with keeping(ours, theirs):
        fail(ours, one)
        await until(lambda: "failed 3 times in a row" in theirs.figures(one).closed)
        ends = [live.lane(one).circuit.open_until - live.monotonic() for live in (ours, theirs)]
        assert ends[0] == pytest.approx(ends[1], abs=0.2)
        assert 0 < ends[1] <= REST_S
        theirs.lane(one).circuit.worked()
        assert theirs.figures(one).closed == ""
        await until(lambda: ours.figures(one).closed == "")


async def test_a_pause_that_one_was_asked_for_is_kept_by_all_and_the_longest_holds(cache: Cache) -> None:
    lives, one = [Live(Hand(n * 1000.0), cache) for n in range(3)], offer("pausing")
    for live, pause_s in zip(lives, (30, 60, 0), strict=True):
        live.lane(one).circuit.pause(live.monotonic() + pause_s)
    for _ in range(5):
        await beat(*lives)
    for live in lives:
        assert live.figures(one).closed.startswith("Its provider asked for a pause of")
        assert 55 < live.lane(one).circuit.paused_until - live.monotonic() <= 60.1


async def test_of_many_routers_one_tries_a_model_at_a_time(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "CLAIM_S", WITHIN_S)  # who is not answered tries it by itself
    lives, one = [Live(Hand(n * 50.0), cache) for n in range(8)], offer("tried")
    await beat(*lives)
    await rest_over(lives, one)
    trying, refused, most = 0, 0, 0
    go = asyncio.Event()

    async def call(live: Live) -> None:
        nonlocal trying, refused, most
        place = take(live, one)
        try:
            async with place.turn():
                trying += 1
                most = max(most, trying)
                await go.wait()
                trying -= 1
        except Exhausted as closed:
            assert (closed.reason, closed.message) == ("MODEL_BUSY", "It failed lately and is being tried again.")
            refused += 1
        finally:
            place.give_back()

    async with asyncio.TaskGroup() as calls:
        for live in lives * 4:
            calls.create_task(call(live))
        await until(lambda: refused == 4 * len(lives) - 1)
        await beat(*lives)
        assert all(live.figures(one).closed == "It failed lately and is being tried again." for live in lives)
        assert 0 < await cache.redis.pttl(trial(one.name)) <= LEASE_S * 1000, "a router that dies blocks it no longer"
        go.set()
    assert most == 1
    await beat(*lives, *lives)
    assert all(live.figures(one).closed == "" for live in lives), "it said nothing: another may try"
    async with take(lives[3], one).turn():
        lives[3].lane(one).circuit.worked()
    await beat(*lives, *lives)
    assert not any(live.lane(one).circuit.is_open for live in lives)
    assert await cache.redis.get(trial(one.name)) is None


@pytest.mark.parametrize("steps", range(1, 8))
async def test_what_is_cancelled_at_any_step_ends(cache: Cache, steps: int) -> None:
    async def ask() -> None:
        while True:
            await cache.time_ms()
            await cache.claim("{live}:1:try:ended", b"", 1)
            await cache.together([("GET", "{live}:1:try:ended")])

    asking = asyncio.create_task(ask())
    for _ in range(steps):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking], timeout=WITHIN_S)
    assert asking.cancelled()


async def test_a_try_that_is_cancelled_before_it_began_is_given_back(store: Store, cache: Cache) -> None:
    live, one = Live(cache=cache), offer("cancelled")
    await beat(live)
    await rest_over([live], one)
    pid = await store.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = asyncio.create_task(take(live, one).turn().__aenter__())
        await until(lambda: live.lane(one).circuit.probing)
        asked.cancel()
        await asyncio.wait([asked], timeout=WITHIN_S)
        assert asked.cancelled()
    finally:
        os.kill(pid, signal.SIGCONT)
    await beat(live)
    assert live.figures(one).closed == ""
    assert await cache.redis.get(trial(one.name)) is None
    async with asyncio.timeout(WITHIN_S), take(live, one).turn():
        assert live.lane(one).circuit.probing


@pytest.mark.parametrize("leap_s", [-4000.0, -35.0, -3.0, 3.0, 35.0, 4000.0])
async def test_a_clock_that_is_set_breaks_nothing(cache: Cache, leap_s: float) -> None:
    """Valkey's, and a router's own."""
    stores, one = Hand(), offer(f"leaping {leap_s}")
    shared, clocks = SetClock(cache.redis, stores), [Hand(), Hand(7.0)]
    lives = [Live(clock, shared) for clock in clocks]
    answer(lives[0], one)
    fail(lives[0], one)
    await beat(*lives, *lives)
    for moved in (stores, clocks[1]):
        moved.ahead_s += leap_s
        answer(lives[0], one)
        answer(lives[1], one)
        await beat(*lives, *lives)
        calls = [live.standing(one).calls for live in lives]
        assert min(calls) >= 2, "all that was counted since is known to both"
        fail(lives[1], one)
        await beat(*lives, *lives)
        assert all(0 < live.lane(one).circuit.open_until - live.monotonic() <= 2 * REST_S + 0.1 for live in lives)
        lives[0].lane(one).circuit.worked()
        await beat(*lives, *lives)
        assert not any(live.figures(one).closed for live in lives)


async def test_what_strangers_write_is_left_alone_and_all_expires_by_itself(cache: Cache) -> None:
    ours, theirs, one = Live(cache=cache), Live(cache=cache), offer("strange")
    answer(ours, one)
    await beat(ours)
    key = slot_key(ours.recent.slot)
    await cache.redis.hset(key, mapping={b"rubbish": b"\xc1\xff", b"older": b"\x91\x80", b"": b""})
    await beat(theirs)
    assert theirs.standing(one).calls == 1
    async for name in cache.redis.scan_iter(match="{live}*"):
        left_ms = await cache.redis.pttl(name)
        assert left_ms == GONE or 0 <= left_ms <= (SLOTS + 2) * SLOT_S * 1000


async def test_while_valkey_does_not_answer_nothing_waits_and_a_try_goes_out(store: Store, cache: Cache) -> None:
    live, one = Live(cache=cache), offer("hung")
    await beat(live)
    await rest_over([live], one)
    pid = await store.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        beating = asyncio.create_task(live.beat())
        began = time.monotonic()
        async with take(live, one).turn():  # it asks Valkey, and is not told
            answer(live, one)
        assert time.monotonic() - began < ROUND_S
        assert live.figures(one).latency_ms is not None
        async with asyncio.timeout(WITHIN_S):
            await beating
        assert not live.is_shared
    finally:
        os.kill(pid, signal.SIGCONT)
    await until_shared(live)


async def test_what_was_counted_when_valkey_went_away_is_told_when_it_is_back(store: Store, cache: Cache) -> None:
    ours, theirs, one = Live(cache=cache), Live(cache=cache), offer("gone")
    await beat(ours)
    answer(ours, one)
    assert ours.sharing is not None
    pid = await store.pid()
    ours.sharing.cache = Stopping(cache.redis, pid)
    try:
        await beat(ours)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not ours.is_shared
    ours.sharing.cache = cache
    await until_shared(ours)
    await beat(theirs)
    assert theirs.standing(one) == ours.standing(one)
    assert ours.standing(one).calls == 1


async def test_valkey_killed_in_the_middle_makes_no_error_and_sharing_goes_on_when_it_is_back(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "valkey", free_port()), offer("killed")
    async with AsyncExitStack() as stack:
        caches = [await stack.enter_async_context(open_cache(store.url)) for _ in range(2)]
        ours, theirs = (Live(cache=cache) for cache in caches)
        with lines_said() as logs:
            async with store.runs(), keeping(ours, theirs):
                answer(ours, one)
                await until(lambda: theirs.standing(one).calls == 1)
                os.kill(await store.pid(), signal.SIGKILL)
                await until(lambda: not ours.is_shared and not theirs.is_shared)
                answer(ours, one)
                assert ours.standing(one).calls == 2
                assert theirs.standing(one).calls == 1, "what it heard before grows old, and no faster"
                fail(ours, one)
                assert ours.figures(one).closed
                ours.lane(one).circuit.open_until = ours.monotonic()
                async with take(ours, one).turn():
                    answer(ours, one)
                assert ours.figures(one).closed == ""
                await beat(ours, theirs, ours, theirs)
            told = [entry["event"] for entry in logs if entry["level"] == "warning"]
            assert told == ["live figures are this router's own: Valkey is away"] * 2, "once each"
        async with store.runs(), keeping(ours, theirs):
            await until(lambda: ours.is_shared and theirs.is_shared)
            answer(theirs, one)
            await until(lambda: same(ours.standing(one), theirs.standing(one)))


def same(one: Standing, other: Standing) -> bool:
    return one == other and one.calls == 7


async def rest_over(lives: list[Live], one: Offer) -> None:
    """The model failed at all of them, and may be tried."""
    for live in lives:
        fail(live, one)
    await beat(*lives, *lives)
    for live in lives:
        live.lane(one).circuit.open_until = live.monotonic()
        assert live.figures(one).closed == ""


async def until_shared(live: Live) -> None:
    async with asyncio.timeout(5):
        while not live.is_shared:
            await live.beat()
