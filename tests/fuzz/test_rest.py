"""The REST surface does what its document says, whatever is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.fuzz import is_fault
from tests.fuzz.loose import meant
from tests.fuzz.surface import ANSWER_S, Seat, check_events, leaves_none, load_surface, reason_of, streams
from tests.fuzz.tally import Tally
from tests.system.mesh import Mesh

pytestmark = pytest.mark.timeout(300)

SURFACE = load_surface()
TOO_LARGE = 413
"""A refusal, of which negative_data_rejection knows nothing."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def seat(scripted_mesh: Mesh, tally: Tally) -> Seat:
    return Seat.of(scripted_mesh, tally)


@SURFACE.parametrize()  # type: ignore[untyped-decorator]
def test_every_operation_answers_as_the_document_says(seat: Seat, case: Any) -> None:
    seat.furnish(case)
    seat.settle(case)

    response = seat.call(case)

    if streams(case) and response.status_code == 200:
        check_events(case, response)
        return
    checks = [check for check in CHECKS if check is not not_a_server_error or not leaves_none(case, response)]
    if meant(case) and response.status_code != TOO_LARGE:
        case.validate_response(response, checks)
    else:
        case.validate_response(response, checks[:-1])


@SURFACE.parametrize()  # type: ignore[untyped-decorator]
@settings(max_examples=1, phases=[Phase.generate])
def test_without_a_token_nothing_is_served_but_what_is_public(seat: Seat, case: Any) -> None:
    is_public = case.operation.definition.raw.get("security") == []

    response = case.call(base_url=seat.mesh.url, headers={}, timeout=ANSWER_S)

    assert is_public or (response.status_code, reason_of(response)) == (401, "TOKEN_REFUSED")


@pytest.mark.parametrize("name", [f"a{letter}b" for letter in "!#$%&'*+-.^_`|~09"])
def test_every_header_that_http_allows_may_be_sent(seat: Seat, name: str) -> None:
    answer = seat.client.call("GET", "/v1/conversations", headers={name: "x"})

    assert answer.status == 200, answer.body


def test_no_log_of_the_mesh_tells_of_a_fault_that_nobody_foresaw(seat: Seat) -> None:
    logs = {file.name: file.read_text(errors="replace") for file in (seat.mesh.home / "logs").glob("*.log")}
    found = [f"{name}: {line[:2000]}" for name, text in logs.items() for line in text.splitlines() if is_fault(line)]
    assert {"agent.log", "router.log", "canvas.log", "console.log"} <= set(logs)
    assert not found, "\n".join(found[:5])
