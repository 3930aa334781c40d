"""What the rooms send as a refusal is what the SDK raises."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpclib import GRPCError, Status

import soma_sdk.errors
from services.common.errors import KINDS, Refusal
from soma_sdk import Failed, NotFound, Unavailable, Unexpected
from soma_sdk.errors import Details, SomaError, error_of


def received(status: status_pb2.Status) -> SomaError:
    code = Status(status.code)
    return error_of(GRPCError(code, status.message, Details().decode(code, status.message, status.SerializeToString())))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_every_kind_of_refusal_arrives_as_the_class_of_its_name_with_all_it_says(kind: type[Refusal]) -> None:
    sent = kind("TURN_RUNNING", "Wait for it, ünd more.", retry_after_s=1.5, turn="conversations/x/turns/y")

    error = received(sent.status())

    assert type(error) is getattr(soma_sdk.errors, kind.__name__)
    assert (error.reason, error.message, error.retry_after_s) == ("TURN_RUNNING", "Wait for it, ünd more.", 1.5)
    assert error.metadata == {"turn": "conversations/x/turns/y"}
    assert str(error) == "Wait for it, ünd more. (TURN_RUNNING)"


def test_without_retry_info_there_is_nothing_to_wait_for() -> None:
    assert received(KINDS[14]("MODEL_UNAVAILABLE", "Every model is closed.").status()).retry_after_s is None


def test_a_method_that_the_mesh_does_not_have_is_not_found() -> None:
    status = status_pb2.Status(code=Status.UNIMPLEMENTED.value, message="No such method.")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="PATH_UNKNOWN", domain="soma"))

    assert type(received(status)) is NotFound


@pytest.mark.parametrize("code", [Status.UNAVAILABLE, Status.CANCELLED, Status.UNKNOWN])
def test_a_cut_that_a_proxy_tells_may_be_tried_again(code: Status) -> None:
    error = error_of(GRPCError(code, "upstream reset"))

    assert type(error) is Unavailable
    assert error.retry_after_s == 0


@pytest.mark.parametrize("code", [Status.INTERNAL, Status.DATA_LOSS, Status.OUT_OF_RANGE])
def test_what_nobody_explains_is_unexpected(code: Status) -> None:
    assert type(error_of(GRPCError(code))) is Unexpected


@pytest.mark.parametrize("details", [b"", b"\xff\xff\xff", b"\x1a\x03abc", b"\x1a\xff"])
def test_details_that_are_none_leave_the_status(details: bytes) -> None:
    assert Details().decode(Status.INTERNAL, "", details) == []


def test_another_house_reason_is_not_taken_for_ours() -> None:
    status = status_pb2.Status(code=Status.PERMISSION_DENIED.value, message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="ROLE_REFUSED", domain="example.com"))

    assert received(status).reason == "PERMISSION_DENIED"


def test_an_in_band_error_is_no_refusal_to_be_tried_again() -> None:
    assert not issubclass(Failed, Unavailable)
