"""The ground floor's pure parts."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from services.agent import told
from services.common import audit, outbox, pages, spans
from services.common.access import rule_of
from services.common.call import NOBODY
from services.common.caller import Caller
from services.common.clock import new_id, rfc3339
from services.common.errors import (
    CATALOGUE,
    KINDS,
    Conflict,
    Exhausted,
    Invalid,
    NotFound,
    Refusal,
    Unauthenticated,
    refusal_of,
)
from services.common.people.sealing import SubjectKey
from services.common.schemas import to_json
from soma.events.v1alpha1.message_pb2 import MessageEvent


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_refusal_survives_the_wire(kind: type[Refusal]) -> None:
    sent = kind("TURN_RUNNING", "Wait.", retry_after_s=1.5, turn="t")
    got = refusal_of(sent.status())

    assert type(got) is kind
    assert (got.reason, got.message, got.metadata, got.retry_after_s) == ("TURN_RUNNING", "Wait.", {"turn": "t"}, 1.5)


def test_a_reason_that_is_not_in_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(LookupError):
        Invalid("NO_SUCH_REASON", "x")


def test_a_status_of_strangers_becomes_room_unavailable() -> None:
    status = Conflict("TURN_RUNNING", "x").status()
    del status.details[:]

    assert refusal_of(status).reason == "ROOM_UNAVAILABLE"


def test_only_what_may_succeed_later_is_called_retryable() -> None:
    assert Exhausted("ROOM_BUSY", "x", retry_after_s=1).failure().retryable
    assert not Exhausted("BUDGET_SPENT", "x").failure().retryable
    assert not NotFound("TURN_UNKNOWN", "x").failure().retryable


def test_the_catalogue_has_no_prefix() -> None:
    assert "TOKEN_REFUSED" in CATALOGUE


def test_ids_sort_by_time_and_are_version_7() -> None:
    ids = [new_id() for _ in range(3)]

    assert all(id.version == 7 for id in ids)
    assert len(set(ids)) == 3


def test_a_page_token_leads_on_in_its_own_list_only() -> None:
    last = new_id()
    token = pages.token_after(last, "conversations/a")

    assert pages.before(token, "conversations/a") == last
    with pytest.raises(Invalid):
        pages.before(token, "conversations/b")


@pytest.mark.parametrize("token", ["x", "AAAA", "A" * 27, "\n", "é", "A" * 5000])
def test_a_token_of_no_list_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        pages.before(token, "conversations")


def test_a_page_ends_where_its_rows_or_its_bytes_do_and_the_last_one_leads_nowhere() -> None:
    ids = [new_id() for _ in range(4)]

    def cut(size: int, length: int) -> tuple[int, uuid.UUID | None]:
        found = [MessageEvent(id=str(id), text="x" * length) for id in ids[: size + 1]]
        page, token = pages.cut(found, size, "all", lambda one: uuid.UUID(one.id))
        return len(page), pages.before(token, "all") if token else None

    assert (cut(3, 10), cut(4, 10)) == ((3, ids[2]), (4, None))
    assert (cut(4, 200_000), cut(4, 600_000)) == ((2, ids[1]), (1, ids[0]))
    assert pages.cut([], 5, "all", lambda _: ids[0]) == ([], "")


@pytest.mark.parametrize("header", ["", "x", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "a-b-c-d"])
def test_a_broken_traceparent_is_no_traceparent(header: str) -> None:
    assert spans.parse(header) is None


def test_a_traceparent_is_read_and_written_alike() -> None:
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    trace_id, span_id, sampled = spans.parse(header) or (0, 0, False)

    assert spans.format_traceparent(trace_id, span_id, sampled=sampled) == header


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"tenant": "acme"},
        {"tenant": "Acme", "sub": "x"},
        {"tenant": "a", "sub": "x"},
        {"tenant": "acme; drop", "sub": "x"},
        {"tenant": "acme", "sub": ""},
        {"tenant": "acme", "sub": "system:agent"},
        {"tenant": "acme", "sub": "x" * 256},
        {"tenant": "acme", "sub": "x", "roles": "admin"},
        {"tenant": "acme", "sub": "x", "roles": [1]},
        {"tenant": ["acme"], "sub": "x"},
    ],
)
def test_claims_that_name_nobody_make_no_caller(claims: dict[str, object]) -> None:
    with pytest.raises(Unauthenticated):
        Caller.of_claims(claims, "token")


def test_no_claim_can_make_a_system_caller() -> None:
    assert Caller.system("agent", "acme").subject == "system:agent"
    with pytest.raises(Unauthenticated):
        Caller.of_claims({"tenant": "acme", "sub": "system:agent", "roles": ["admin"]}, "")


def test_a_method_without_an_access_option_is_not_served() -> None:
    with pytest.raises(LookupError):
        rule_of("/google.protobuf.NoService/Method")


def test_an_event_that_breaks_its_schema_is_not_written() -> None:
    event = MessageEvent(id="no uuid", type="turn.asked", version=1, tenant="acme", subject="x", conversation="c")
    event.time = rfc3339(datetime.now(UTC))

    with pytest.raises(ValueError, match="id"):
        to_json(event)


def test_what_people_write_is_in_no_event() -> None:
    event = told.asked((uuid.uuid4(), uuid.uuid4()), "a secret")

    assert "secret" not in str(event)
    assert event.size_bytes == 8


def test_an_audit_event_says_who_did_what_and_how_it_ended() -> None:
    caller = Caller("acme", "ada", frozenset({"member"}), frozenset())
    key = SubjectKey.new("acme")
    event = audit.event(caller, key, "chat.asked", NOBODY, datetime.now(UTC), reason="TURN_RUNNING")

    assert (event.tenant, event.action, event.outcome) == ("acme", "chat.asked", "refused")
    assert event.subject == key.pseudonym
    assert key.open(event.person, event.id) == "ada"
    assert outbox.row(event, "").key == f"acme/{key.pseudonym}"
