"""Every method of every room under requests that nobody would send, and some that everybody might."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.fuzz.breaches import breaches, broken_by
from tests.fuzz.calls import call
from tests.fuzz.draw import draw
from tests.fuzz.fuzz import METHODS, Fuzz, shown
from tests.fuzz.methods import Method
from tests.fuzz.rubbish import oversized, parses, rubbish
from tests.house import ROOMS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

KEEPING, RUBBISH = 30, 30
LONG = "😀" * 100_000
RULED = [method for method in METHODS if any(breaches(method.request.DESCRIPTOR))]
FIRST = [next(method for method in METHODS if method.room == room) for room in ROOMS]
READS = [method for method in METHODS if method.reads]


@pytest.mark.parametrize("method", METHODS, ids=str)
async def test_what_keeps_the_rules_is_answered_or_refused_with_a_reason(fuzz: Fuzz, method: Method) -> None:
    person, values = await fuzz.seat(method)

    await fuzz.try_all(person, method, [r.SerializeToString() for r in draw(values.requests(), KEEPING)])

    await serves(fuzz, method)


@pytest.mark.parametrize("method", RULED, ids=str)
async def test_what_breaks_one_rule_is_refused_and_the_field_is_named(fuzz: Fuzz, method: Method) -> None:
    person, values = await fuzz.seat(method)
    ways = list(breaches(method.request.DESCRIPTOR))
    good = draw(values.requests(), 20)
    wrong: list[str] = []

    for n, way in enumerate(ways):
        request = way.of(good[n % len(good)])
        assert len(broken_by(request)) == 1, f"{way}: {broken_by(request)}"
        outcome = await call(person, method, request.SerializeToString())
        fuzz.tally.count(method, outcome.reason, outcome.took_s)
        if (outcome.code, outcome.field, outcome.reason) != (StatusCode.INVALID_ARGUMENT, *broken_by(request)[0]):
            wrong.append(f"{way}: {outcome}\n  {shown(method, request.SerializeToString())}")

    assert not wrong, "\n".join(wrong[:8])


@pytest.mark.parametrize("method", METHODS, ids=str)
async def test_bytes_that_are_no_message_are_refused_as_such(fuzz: Fuzz, method: Method) -> None:
    person, values = await fuzz.seat(method)

    outcomes = await fuzz.try_all(person, method, draw(rubbish(method.request.DESCRIPTOR, values.requests()), RUBBISH))

    malformed = [(body, outcome) for body, outcome in outcomes if not parses(method.request, body)]
    assert malformed
    assert {outcome.reason for _, outcome in malformed} <= {"REQUEST_MALFORMED", "OK"}
    await serves(fuzz, method)


@pytest.mark.parametrize("method", FIRST, ids=str)
async def test_four_mebibytes_are_read_and_not_a_byte_more(fuzz: Fuzz, method: Method) -> None:
    person, _ = await fuzz.seat(method)
    too_large, large = oversized()

    refused, answered = await call(person, method, too_large), await call(person, method, large, most=1)

    assert refused.code == StatusCode.RESOURCE_EXHAUSTED
    assert not answered.complaint
    await serves(fuzz, method)


@pytest.mark.parametrize("method", READS, ids=str)
async def test_a_read_changes_no_row(fuzz: Fuzz, method: Method) -> None:
    person, values = await fuzz.seat(method)
    requests = [request.SerializeToString() for request in draw(values.requests(), 30)]
    await fuzz.still()
    before = await fuzz.rows()

    await fuzz.try_all(person, method, requests)

    assert await fuzz.rows() == before


@pytest.mark.parametrize("name", ["CreateChatCompletion", "CreateEmbedding", "Decide"])
async def test_a_refusal_is_told_however_long_the_words_are_that_it_repeats(fuzz: Fuzz, name: str) -> None:
    method = next(method for method in METHODS if str(method) == name)
    person, _ = await fuzz.seat(method)
    wordy: Any = method.request()
    if name == "Decide":
        wordy.text, wordy.hints.models[:] = "x", ["😀" * 256] * 64
    else:
        wordy.body.data = json.dumps({"model": "x", "tool_choice": LONG, "encoding_format": LONG}).encode()

    outcome = await call(person, method, wordy.SerializeToString())

    assert outcome.reason in ("REQUEST_INVALID", "MODEL_UNKNOWN"), outcome


async def test_no_log_tells_of_a_fault_that_nobody_foresaw(fuzz: Fuzz) -> None:
    assert fuzz.faults() == []


async def serves(fuzz: Fuzz, method: Method) -> None:
    """The same process as before still says so."""
    assert fuzz.house.rooms[method.room].returncode is None
    stub: Any = health_pb2_grpc.HealthStub(fuzz.house.channel(method.room, "local"))
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
