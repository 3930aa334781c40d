"""Queues, waits, circuits and figures of models, with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Exhausted
from services.router.live import Ended, Live, Place
from services.router.live.circuit import LONGEST_PAUSE_S, LONGEST_REST_S, OPENS_AFTER, REST_S, Circuit
from services.router.live.recent import LATE_SLOTS, MOST_MODELS, SLOT_S, SLOTS, Recent
from services.router.live.sharing import DECODE, ENCODE, Notice, Told, heed, notice_of, read
from services.router.live.tally import Tally, bucket_of, count, percentile, standing_of, sum_of
from services.router.offers import Limits, Offer, Price, Provider

A_BUCKET = 2 ** (1 / 8)


class Hand:
    """A monotonic clock that stands until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def offer(model: str = "gpt-x", running: int = 2, queued: int = 1, queue_s: float = 5.0, total: int = 0) -> Offer:
    limits = Limits(running=running, queued=queued, queue_s=queue_s, running_total=total or None)
    return Offer(Provider("acme", "openai", limits=limits), model, "slm", Price(0, 0), 4096, 512, 400)


def take(live: Live, one: Offer) -> Place:
    place = live.take(one)
    assert place is not None
    return place


def opened(clock: Hand, one: Offer) -> Live:
    """Its circuit has just opened."""
    live = Live(clock)
    for _ in range(OPENS_AFTER):
        live.lane(one).circuit.failed(clock())
    return live


def ended(total_ms: int = 1100, first_ms: int = 100, tokens: int = 50, cost: int = 7, ok: bool = True) -> Ended:
    return Ended(first_ms, total_ms, tokens, cost, ok)


def test_a_model_takes_as_many_calls_as_run_and_wait_and_no_more() -> None:
    live, one = Live(), offer(running=2, queued=1)
    places = [take(live, one) for _ in range(3)]
    assert live.take(one) is None
    assert live.figures(one).busy
    assert live.figures(one).retry_after_s >= 1
    places[0].give_back()
    places[0].give_back()
    assert not live.figures(one).busy
    take(live, one)
    assert live.take(one) is None, "a place given back twice counts once"


async def test_calls_beyond_the_running_ones_wait_in_order() -> None:
    live, one = Live(), offer(running=1, queued=3)
    began: list[int] = []
    go = asyncio.Event()

    async def call(number: int, place: Place) -> None:
        async with place.turn():
            began.append(number)
            await go.wait()

    async with asyncio.TaskGroup() as calls:
        for number in range(4):
            calls.create_task(call(number, take(live, one)))
        while not began:
            await asyncio.sleep(0)
        assert began == [0]
        go.set()
    assert began == [0, 1, 2, 3]


async def test_all_models_of_a_provider_together_run_no_more_than_its_bound() -> None:
    live, models = Live(), [offer(f"m{n}", running=2, queued=9, total=3) for n in range(4)]
    running, most = 0, 0

    async def call(place: Place) -> None:
        nonlocal running, most
        async with place.turn():
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
        place.give_back()

    async with asyncio.TaskGroup() as calls:
        for one in models * 3:
            calls.create_task(call(take(live, one)))
        assert live.take(models[0]) is None, "three run and nine wait, whatever the model"
        assert all(live.figures(one).busy for one in models)
    assert most == 3
    assert not any(live.figures(one).busy for one in models)


async def test_a_call_waits_for_its_place_no_longer_than_the_queue_allows() -> None:
    live, one = Live(), offer(running=1, queued=1, queue_s=0.05)
    async with take(live, one).turn():
        with pytest.raises(Exhausted) as refused:
            async with take(live, one).turn():
                raise AssertionError("it ran beside the one that may run")
    assert refused.value.reason == "MODEL_BUSY"


@pytest.mark.parametrize("total", [0, 1])
async def test_a_cancelled_wait_gives_its_place_back(total: int) -> None:
    live, one = Live(), offer(running=2 if total else 1, queued=1, total=total)
    async with AsyncExitStack() as running:
        first = take(live, one)
        await running.enter_async_context(first.turn())
        second = take(live, one)
        waiting = asyncio.create_task(second.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        second.give_back()
    first.give_back()
    async with asyncio.timeout(1), take(live, one).turn():
        assert not live.figures(one).busy


@pytest.mark.parametrize(
    ("waits", "median"), [([], None), ([100], 100), ([10, 1000, 100], 100), ([1] * 32 + [9] * 40, 9)]
)
def test_the_wait_is_the_median_of_the_last_minute(waits: list[int], median: int | None) -> None:
    live, one = Live(), offer()
    for ms in waits:
        live.lane(one).first_text_after(ms)
    assert live.figures(one).latency_ms == (median and near(median))


async def test_a_wait_of_more_than_a_minute_ago_counts_only_until_there_is_a_newer_one() -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    for _ in range(5):
        live.lane(one).first_text_after(1000)
    clock.now += LATE_SLOTS * SLOT_S
    await live.beat()
    assert live.figures(one).latency_ms == near(1000)
    live.lane(one).first_text_after(10)
    await live.beat()
    assert live.figures(one).latency_ms == near(10)


async def test_after_the_window_nothing_is_known_of_a_model() -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    live.lane(one).first_text_after(1000)
    live.ended(one, ended())
    clock.now += (SLOTS - 1) * SLOT_S
    await live.beat()
    assert live.standing(one).spend_microusd == 7
    clock.now += SLOT_S
    await live.beat()
    assert live.figures(one).latency_ms is None
    assert live.standing(one) == standing_of(Tally())
    assert not live.recent.ours, "and nothing is kept"


def test_a_standing_says_what_the_answers_were_like() -> None:
    live, one = Live(), offer()
    circuit = live.lane(one).circuit
    for first_ms, total_ms in ((100, 1100), (200, 2200), (300, 3300)):
        live.lane(one).first_text_after(first_ms)
        circuit.worked()
        live.ended(one, ended(total_ms, first_ms, tokens=40, cost=5))
    circuit.failed(0.0)
    circuit.pause(0.0)
    live.ended(one, ended(ok=False, cost=2))
    now = live.standing(one)
    assert (now.calls, now.failed, now.limited, now.error_rate, now.spend_microusd) == (4, 1, 1, 0.25, 17)
    assert (now.first_p50_ms, now.first_p95_ms) == (near(200), near(300))
    assert (now.whole_p50_ms, now.whole_p95_ms) == (near(2200), near(3300)), "a broken answer has no length"
    assert now.tokens_per_s == 3 * 40 / 6
    assert live.standing(one) == now, "to look changes nothing"


@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_one_bucket_of_the_exact_one(times: list[int], share: float) -> None:
    found: dict[int, int] = {}
    for ms in times:
        count(found, bucket_of(ms))
    exact = sorted(times)[max(1, math.ceil(share * len(times))) - 1]
    said = percentile(found, share)
    assert said is not None
    assert exact / A_BUCKET - 1 <= said <= exact * A_BUCKET + 1  # a whole millisecond


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-5, 2**70), st.booleans()), max_size=60))
def test_the_counts_of_many_routers_add_up_to_those_of_one(answers: list[tuple[int, int, bool]]) -> None:
    routers, one = [Tally() for _ in range(10)], Tally()
    for router, number, ok in answers:
        for tally in (routers[router], one):
            tally.ended(ended(number, 3, number, number, ok))
            count(tally.first, bucket_of(number))
    heard = [told.page["m"] for tally in routers if (told := DECODE(ENCODE(Told({"m": tally}))))]
    assert sum_of(heard) == one


def test_an_absurd_figure_of_a_provider_is_told_to_others_all_the_same() -> None:
    live, one = Live(), offer()
    for absurd in (2**80, -(2**80)):
        live.ended(one, ended(absurd, 1, absurd, absurd))
    assert read(ENCODE(Told(live.recent.ours[live.recent.slot]))) is not None
    assert live.standing(one).spend_microusd > 0


def test_what_is_counted_is_bounded_in_models() -> None:
    recent = Recent()
    for n in range(MOST_MODELS + 10):
        recent.tally(f"acme/m{n}").worked += 1
    recent.hear(0, [{f"other/m{n}": Tally(worked=1) for n in range(MOST_MODELS + 10)}])
    assert len(recent.ours[0]) == len(recent.theirs[0]) == MOST_MODELS


@pytest.mark.parametrize("leap_s", [-1e9, -3600.0, -SLOT_S, 0.5, 3600.0, 1e9])
async def test_a_clock_that_leaps_breaks_nothing(leap_s: float) -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    live.lane(one).first_text_after(100)
    live.ended(one, ended())
    await live.beat()
    clock.now += leap_s
    await live.beat()
    live.lane(one).first_text_after(100)
    live.ended(one, ended())
    await live.beat()
    assert live.figures(one).latency_ms == near(100)
    assert live.standing(one).spend_microusd in (7, 14)
    assert len(live.recent.ours) <= SLOTS


def test_a_circuit_opens_after_failures_in_a_row_and_a_success_forgets_them() -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    circuit = live.lane(one).circuit
    for _ in range(OPENS_AFTER - 1):
        circuit.failed(clock())
    assert live.figures(one).closed == ""
    circuit.worked()
    for _ in range(OPENS_AFTER - 1):
        circuit.failed(clock())
    assert live.figures(one).closed == ""
    circuit.failed(clock())
    assert (
        live.figures(one).closed == f"It failed {OPENS_AFTER} times in a row and rests for {REST_S:.0f} more seconds."
    )


async def test_after_its_rest_one_call_at_a_time_tries_whether_the_model_is_back() -> None:
    clock, one = Hand(), offer()
    live = opened(clock, one)
    clock.now += REST_S
    assert live.figures(one).closed == ""
    place, late = take(live, one), take(live, one)
    async with place.turn():
        assert live.figures(one).closed == "It failed lately and is being tried again."
        with pytest.raises(Exhausted) as refused:
            async with late.turn():
                raise AssertionError("a second call tried beside the first")
    assert refused.value.message == "It failed lately and is being tried again."
    assert live.figures(one).closed == "", "the try is over, another may be made"
    live.lane(one).circuit.worked()
    async with take(live, one).turn(), late.turn():
        assert live.figures(one).closed == ""


async def test_a_call_whose_turn_comes_when_the_model_has_closed_does_not_go_out() -> None:
    clock, one = Hand(), offer(running=1)
    live = Live(clock)
    waiting = take(live, one)
    for _ in range(OPENS_AFTER):
        live.lane(one).circuit.failed(clock())
    with pytest.raises(Exhausted) as refused:
        async with waiting.turn():
            raise AssertionError("it went to a model that rests")
    assert (refused.value.reason, refused.value.message) == ("MODEL_BUSY", live.figures(one).closed)
    clock.now += REST_S
    async with asyncio.timeout(1), waiting.turn():
        pass


def test_each_failed_try_doubles_the_rest_up_to_its_bound() -> None:
    clock, one = Hand(), offer()
    circuit = opened(clock, one).lane(one).circuit
    rest_s = REST_S
    for _ in range(8):
        assert circuit.open_until == clock() + rest_s
        clock.now += rest_s
        rest_s = min(2 * rest_s, LONGEST_REST_S)
        circuit.failed(clock())
    assert rest_s == LONGEST_REST_S


def test_calls_that_were_under_way_when_it_opened_make_the_rest_no_longer() -> None:
    clock, one = Hand(), offer()
    circuit = opened(clock, one).lane(one).circuit
    for _ in range(60):
        circuit.failed(clock())
    assert circuit.open_until == clock() + REST_S


def test_a_pause_that_the_provider_asked_for_closes_it_as_long() -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    live.lane(one).circuit.pause(clock() + 7)
    live.lane(one).circuit.pause(clock() + 3)
    assert live.figures(one).closed == "Its provider asked for a pause of 7 more seconds."
    live.lane(one).circuit.failed(clock())
    live.lane(one).circuit.worked()
    assert live.figures(one).closed != "", "a call that was under way has worked: the pause goes on"
    clock.now += 7
    assert live.figures(one).closed == ""


def test_a_changed_bound_holds_for_the_next_call_and_a_gone_offer_is_forgotten() -> None:
    live = Live()
    take(live, offer(running=1, queued=0))
    assert live.take(offer(running=1, queued=0)) is None
    take(live, offer(running=1, queued=1))
    live.keep_only(())
    take(live, offer(running=1, queued=0))


def test_a_changed_bound_opens_no_circuit_and_forgets_no_wait() -> None:
    clock, one = Hand(), offer()
    live = opened(clock, one)
    live.lane(one).first_text_after(100)
    wider = replace(one, provider=replace(one.provider, limits=Limits(running=9)))
    assert live.figures(wider) == replace(live.figures(one), retry_after_s=live.figures(wider).retry_after_s)
    assert live.figures(wider).closed


def test_a_circuit_that_others_hear_of_rests_there_as_long_as_here() -> None:
    here, there = Hand(50.0), Hand(9_000.0)
    told, heard = Circuit(), Circuit()
    for _ in range(OPENS_AFTER):
        told.failed(here())
    told.pause(here() + 20)
    notice = DECODE(ENCODE(Told({}, {"m": notice_of(replaced(told, 1), 777_000, here())}))).notices["m"]
    here.now, there.now = here.now + 4, there.now + 4
    heed(heard, notice, 781_000, there())
    assert heard.closed(there()) == told.closed(here()) != ""
    assert heard.open_until - there() == told.open_until - here() == REST_S - 4
    assert heard.paused_until - there() == told.paused_until - here() == 16


def test_of_what_others_tell_of_a_circuit_the_newest_holds() -> None:
    circuit = Circuit()
    closed, open_ = Notice(20, 0, REST_S, 0, 0), Notice(10, 3, REST_S, 9000, 0)
    heed(circuit, closed, 1000, 0.0)
    heed(circuit, open_, 1000, 0.0)
    assert circuit.closed(0.0) == ""
    heed(circuit, msgspec.structs.replace(open_, stamp=30), 1000, 0.0)
    assert circuit.closed(0.0)
    circuit.worked()
    heed(circuit, msgspec.structs.replace(open_, stamp=40), 1000, 0.0)
    assert circuit.closed(0.0) == "", "a call of ours that nobody was told of is newer"


def test_a_notice_closes_for_no_longer_than_one_of_ours_could() -> None:
    circuit = Circuit()
    heed(circuit, Notice(1, 3, REST_S, 2**53, 2**53), 1000, 0.0)
    assert circuit.open_until <= LONGEST_REST_S
    assert circuit.paused_until <= LONGEST_PAUSE_S


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x90\x90", ENCODE([{"m": [-1]}, {}]), ENCODE([{}, {"m": [1]}])])
def test_what_another_version_wrote_is_left_alone(rubbish: bytes) -> None:
    told = read(rubbish)
    assert told is None or not (told.page or told.notices)


def replaced(circuit: Circuit, stamp: int) -> Circuit:
    circuit.stamp = stamp
    return circuit


def near(ms: int) -> object:
    return pytest.approx(ms, rel=A_BUCKET - 1, abs=1)
