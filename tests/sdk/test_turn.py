"""What a turn makes of the events that come in: pure."""

from __future__ import annotations

from typing import Any, cast

import pytest

from soma_api.soma.agent.v1 import Accepted, AnswerPane, ChatEvent, ChatRequest, Done, Heartbeat, Text
from soma_api.soma.common.v1 import Failure
from soma_sdk import Failed, Unavailable
from soma_sdk.answer import Heard
from soma_sdk.calls import Calls
from soma_sdk.tokens import Tokens
from soma_sdk.turn import Turn

NOWHERE = Calls(cast(Any, None), Tokens(None))


@pytest.fixture
def turn() -> Turn:
    """That has heard two events."""
    turn = Turn(NOWHERE, ChatRequest(text="?"))
    turn._take(ChatEvent(sequence=1, accepted=Accepted(turn="c/turns/t", conversation="c")))
    turn._take(ChatEvent(sequence=2, text=Text(delta="one")))
    return turn


def test_the_next_event_is_given_and_counted(turn: Turn) -> None:
    assert turn._take(ChatEvent(sequence=3, text=Text(delta="two"))) == Text(delta="two")
    assert (turn.sequence, turn.name, turn.conversation) == (3, "c/turns/t", "c")


def test_what_was_given_is_not_given_again(turn: Turn) -> None:
    assert turn._take(ChatEvent(sequence=2, text=Text(delta="one"))) is None
    assert turn._take(ChatEvent(sequence=1, accepted=Accepted(turn="c/turns/t", conversation="c"))) is None
    assert turn.sequence == 2


def test_a_heartbeat_is_swallowed(turn: Turn) -> None:
    assert turn._take(ChatEvent(heartbeat=Heartbeat())) is None
    assert turn.sequence == 2


def test_a_gap_is_a_cut(turn: Turn) -> None:
    with pytest.raises(Unavailable, match="event 3 is missing"):
        turn._take(ChatEvent(sequence=4, text=Text(delta="three")))

    assert turn.sequence == 2


def test_an_event_of_a_kind_that_is_not_known_yet_is_counted_and_left_out(turn: Turn) -> None:
    from_later = ChatEvent().parse(bytes(ChatEvent(sequence=3)) + b"\xa2\x06\x02hi")

    assert turn._take(from_later) is None
    assert turn._take(ChatEvent(sequence=4, done=Done())) == Done()


def test_an_error_is_raised_with_what_it_says(turn: Turn) -> None:
    failure = Failure(reason="PROVIDER_CUT", message="The model broke off.", retryable=True)

    with pytest.raises(Failed) as failed:
        turn._take(ChatEvent(sequence=3, error=failure))

    told = failed.value
    assert (told.reason, told.message, told.retryable) == (failure.reason, failure.message, failure.retryable)


def test_panes_hold_the_texts_between_their_opening_and_their_closing() -> None:
    heard = Heard()

    heard.text("before")
    heard.pane(AnswerPane(name="a", kind="table", text="head\n"))
    heard.text("row 1\n")
    heard.text("row 2\n")
    heard.pane(AnswerPane(name="a", closed=True))
    heard.text("between")
    heard.pane(AnswerPane(name="b", kind="image", text="https://example.com/x.png", closed=True))
    heard.text("after")

    assert [(pane.name, pane.text, pane.closed) for pane in heard.panes] == [
        ("a", "head\nrow 1\nrow 2\n", True),
        ("b", "https://example.com/x.png", True),
    ]
    assert "".join(heard.texts) == "beforerow 1\nrow 2\nbetweenafter"
