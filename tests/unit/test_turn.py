"""What the router says, taken into a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.agent.sheets import Sheets
from services.agent.transcript import Transcript
from services.agent.turn import Turn, take
from services.common.caller import Caller
from services.common.clock import new_id
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.router.v1.routing_pb2 import GenerateEvent, TextDelta


class NoFeed:
    async def publish(self, events: Sequence[ChatEvent]) -> None:
        """Nobody is elsewhere."""


def a_turn() -> Turn:
    ids, ada = (new_id(), new_id()), Caller("acme", "ada", frozenset(), frozenset())
    transcript = Transcript(NoFeed())
    nobody: Any = None
    return Turn(ids, ada, "?", "slm", transcript, Sheets(nobody, ids, ada, transcript.say))


def say(turn: Turn, delta: str) -> None:
    take(turn, GenerateEvent(text=TextDelta(delta=delta)))


def test_a_character_of_a_model_that_the_store_cannot_hold_is_replaced() -> None:
    turn = a_turn()

    say(turn, "a\0b")

    assert [event.text.delta for event in turn.transcript._inbox] == ["a\N{REPLACEMENT CHARACTER}b"]


def test_panes_are_told_in_their_place_among_the_text_and_closed_by_name() -> None:
    turn = a_turn()

    for delta in ("See:\n```py", "thon x.py\nprint(1", ")\n", "``", "`\nand\n![a cat](cat.png)\nso."):
        say(turn, delta)

    before, opened, held, closed, after, image, rest = turn.transcript._inbox
    assert (before.text.delta, held.text.delta, after.text.delta, rest.text.delta) == (
        "See:\n```python x.py\n", "print(1)\n", "```\nand\n![a cat](cat.png)\n", "so."
    )  # fmt: skip
    assert (opened.pane.kind, opened.pane.title, opened.pane.language) == ("code", "x.py", "python")
    assert (closed.pane.name, closed.pane.closed, opened.pane.closed) == (opened.pane.name, True, False)
    assert (image.pane.kind, image.pane.title, image.pane.text) == ("image", "a cat", "cat.png")
    assert image.pane.closed
    assert image.pane.name != opened.pane.name


def test_plain_text_is_told_as_it_came() -> None:
    turn = a_turn()

    say(turn, "One *two* `three`.")

    assert [event.text.delta for event in turn.transcript._inbox] == ["One *two* `three`."]
