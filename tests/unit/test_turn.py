"""What the router says, taken into a turn."""

from __future__ import annotations

from collections.abc import Sequence

from services.agent.transcript import Transcript
from services.agent.turn import Turn, take
from services.common.caller import Caller
from services.common.clock import new_id
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.router.v1.routing_pb2 import GenerateEvent, TextDelta


class NoFeed:
    async def publish(self, events: Sequence[ChatEvent]) -> None:
        """Nobody is elsewhere."""


def test_a_character_of_a_model_that_the_store_cannot_hold_is_replaced() -> None:
    transcript = Transcript(NoFeed())
    turn = Turn((new_id(), new_id()), Caller("acme", "ada", frozenset(), frozenset()), "?", "slm", transcript)

    take(turn, GenerateEvent(text=TextDelta(delta="a\0b")))

    assert [event.text.delta for event in transcript._inbox] == ["a\N{REPLACEMENT CHARACTER}b"]
