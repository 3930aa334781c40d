"""Queues, waits and circuits of models, with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.common.errors import Exhausted
from services.router.live import LONGEST_REST_S, OPENS_AFTER, REST_S, Live, Place
from services.router.offers import Limits, Offer, Price, Provider


class Hand:
    """A monotonic clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def offer(running: int = 2, queued: int = 1, queue_s: float = 5.0) -> Offer:
    limits = Limits(running=running, queued=queued, queue_s=queue_s)
    return Offer(Provider("acme", "openai", limits=limits), "gpt-x", "slm", Price(0, 0), 4096, 512, 400)


def take(live: Live, one: Offer) -> Place:
    place = live.take(one)
    assert place is not None
    return place


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


async def test_a_call_waits_for_its_place_no_longer_than_the_queue_allows() -> None:
    live, one = Live(), offer(running=1, queued=1, queue_s=0.05)
    async with take(live, one).turn():
        with pytest.raises(Exhausted) as refused:
            async with take(live, one).turn():
                raise AssertionError("it ran beside the one that may run")
    assert refused.value.reason == "MODEL_BUSY"


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    live, one = Live(), offer(running=1, queued=1)
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
    ("waits", "median"), [([], None), ([100], 100), ([10, 1000, 100], 100), ([1] * 40 + [9] * 32, 9)]
)
def test_the_wait_is_the_median_of_the_last_ones(waits: list[int], median: int | None) -> None:
    live, one = Live(), offer()
    for ms in waits:
        live.lane(one).first_text_after(ms)
    assert live.figures(one).latency_ms == median


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
    clock = Hand()
    live, one = Live(clock), offer()
    circuit = live.lane(one).circuit
    for _ in range(OPENS_AFTER):
        circuit.failed(clock())
    clock.now += REST_S
    assert live.figures(one).closed == ""
    place = take(live, one)
    async with place.turn():
        assert live.figures(one).closed == "It failed lately and is being tried again."
    assert live.figures(one).closed == "", "the try is over, another may be made"
    circuit.worked()
    async with take(live, one).turn():
        assert live.figures(one).closed == ""


def test_each_failed_try_doubles_the_rest_up_to_its_bound() -> None:
    clock = Hand()
    circuit = Live(clock).lane(offer()).circuit
    for _ in range(OPENS_AFTER + 1):
        circuit.failed(clock())
    assert circuit.open_until == clock() + 2 * REST_S
    for _ in range(20):
        circuit.failed(clock())
    assert circuit.open_until == clock() + LONGEST_REST_S


def test_a_pause_that_the_provider_asked_for_closes_it_as_long() -> None:
    clock = Hand()
    live, one = Live(clock), offer()
    live.lane(one).circuit.pause(clock() + 7)
    assert live.figures(one).closed == "Its provider asked for a pause of 7 more seconds."
    clock.now += 7
    assert live.figures(one).closed == ""


def test_a_changed_bound_holds_for_the_next_call_and_a_gone_offer_is_forgotten() -> None:
    live = Live()
    take(live, offer(running=1, queued=0))
    assert live.take(offer(running=1, queued=0)) is None
    take(live, offer(running=1, queued=1))
    live.keep_only(())
    take(live, offer(running=1, queued=0))
