"""Whatever is in the log, a consumer can say why it cannot read it, in a sentence that Postgres takes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from msgspec.structs import replace

from services.common.clock import new_id
from services.common.consumer.letters import REASON_LETTERS, writable
from services.common.consumer.readable import flaw
from services.common.log.kafka.entries import read
from services.common.log.log import Entry
from services.common.outbox import row
from services.workers.reconcile.told import STRANGE, Heard
from soma.events.v1alpha1.message_pb2 import MessageEvent

NOW = datetime(2031, 2, 3, 9, tzinfo=UTC)
TURN = "conversations/00000000-0000-7000-8000-000000000001/turns/00000000-0000-7000-8000-000000000002"


def entry() -> Entry:
    event = MessageEvent(
        id=str(new_id()), type="turn.asked", version=1, time=NOW.isoformat(), tenant="acme", subject="p_ada",
        conversation="conversations/one",
    )  # fmt: skip
    told = row(event, "")
    return Entry(told.topic, 0, 7, UUID(told.id), told.tenant, told.key, told.type, told.payload.encode(), "", NOW)


def grown(more: bytes) -> bytes:
    return entry().payload[:-1] + b',"more":' + more + b"}"


STRANGEST = [
    b"", b"\xff", b"\x00", b"null", b"[1,2]", b"1", b"[" * 200_000, b'{"a":' * 200_000, grown(b"[" * 900 + b"]" * 900),
    grown(b"NaN"), grown(b"1e999"), grown(b"9" * 5000), grown(b'"\\ud800"'), grown(b'1,"\\udfff":2'),
    grown(b'1,"a\\u0000":2'), grown(b'1,"%s":2' % (b"x" * 100_000)), b'{"version":' + b"9" * 4000 + b"}",
]  # fmt: skip


def test_what_rooms_tell_has_no_flaw() -> None:
    assert flaw(entry()) == ""


@pytest.mark.parametrize("payload", STRANGEST, ids=lambda payload: repr(payload[-20:]))
def test_a_payload_of_whatever_kind_has_a_flaw_that_can_be_written_down(payload: bytes) -> None:
    said = writable(flaw(replace(entry(), payload=payload)))
    assert said
    assert "\0" not in said
    assert len(said.encode()) <= 4 * REASON_LETTERS


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"id": UUID(int=7)}, "its id is"),
        ({"tenant": "globex"}, "of the tenant acme, and the log says globex"),
        ({"key": "acme/p_bea"}, "of p_ada, and its key in the log is acme/p_bea"),
        ({"key": "globex/p_ada"}, "its key in the log is globex/p_ada"),
    ],
)
def test_an_event_that_the_log_has_under_another_name_is_not_believed(changed: dict[str, object], why: str) -> None:
    assert why in flaw(replace(entry(), **changed))


@pytest.mark.parametrize(
    "event",
    [
        [1, 2],
        "turn",
        {"turn": TURN, "time": NOW.isoformat(), "conversation": "conversations/1"},
        {"turn": TURN, "type": "turn.asked", "conversation": "conversations/1"},
        {"turn": TURN, "type": "turn.asked", "time": NOW.isoformat()},
        {"turn": TURN, "type": "turn.asked", "time": "yesterday", "conversation": "conversations/1"},
        {"turn": TURN, "type": "turn.asked", "time": "2031-02-03T09:00:00", "conversation": "conversations/1"},
        {"turn": TURN, "type": ["turn.asked"], "time": NOW.isoformat(), "conversation": "conversations/1"},
        {"turn": 7, "type": "turn.asked", "time": NOW.isoformat(), "conversation": "conversations/1"},
    ],
)
def test_reconciliation_hears_nothing_of_an_event_of_another_shape(event: object) -> None:
    heard = Heard()
    with pytest.raises(STRANGE):
        heard.take(event)  # type: ignore[arg-type]
    assert not any(heard.times.values())
    assert not heard.conversations


class Record:
    """What Kafka gives."""

    topic, partition, offset, timestamp, key, value = "agent.messages", 0, 1, 1_900_000_000_000, b"acme/p_ada", b"{}"

    def __init__(self, **changed: object) -> None:
        told = {"id": str(new_id()), "tenant": "acme", "type": "turn.asked"}
        self.headers = [(name, said.encode()) for name, said in told.items()]
        for name, value in changed.items():
            setattr(self, name, value)


def test_a_record_that_no_outbox_could_hold_is_passed_over() -> None:
    assert read(Record())
    for changed in ({"value": None}, {"key": None}, {"key": b"acme/\0"}, {"key": b"\xff"}, {"timestamp": 10**30}):
        assert read(Record(**changed)) is None


def test_headers_stand_in_any_order_and_among_others() -> None:
    ours, trace = Record().headers, ("traceparent", b"00-1-2-01")
    traced = read(Record(headers=[*ours, trace]))
    assert traced and (traced.tenant, traced.type, traced.traceparent) == ("acme", "turn.asked", "00-1-2-01")
    assert traced.id == UUID(ours[0][1].decode())
    for headers in ([trace, *ours], [*ours, ("more", b"\0"), trace], [("first", None), trace, *reversed(ours)]):
        assert read(Record(headers=headers)) == traced
    for broken in ([*ours, ("traceparent", b"\0")], [*ours, ("tenant", b"\0")], [*ours, ("id", b"\0" * 36)], ours[1:]):
        assert read(Record(headers=broken)) is None
