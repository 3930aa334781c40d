"""A whole answer, for who does not want to see it grow."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from soma_api.soma.agent.v1 import AnswerPane, Done, Text
from soma_api.soma.common.v1 import Decision
from soma_sdk.turn import Turn


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    panes: list[AnswerPane]
    """Each with its whole text. The texts stand in `text` too."""
    turn: str
    conversation: str
    decision: Decision
    done: Done

    @property
    def why(self) -> str:
        """Why this model answered, in one sentence."""
        return self.decision.why

    @property
    def cost_microusd(self) -> int:
        return self.done.cost_microusd


@dataclass(slots=True)
class Heard:
    """What has been said so far."""

    texts: list[str] = field(default_factory=list)
    panes: list[AnswerPane] = field(default_factory=list)
    is_open: bool = False

    def text(self, delta: str) -> None:
        self.texts.append(delta)
        if self.is_open:
            self.panes[-1].text += delta

    def pane(self, event: AnswerPane) -> None:
        """Opens a pane, closes the open one, or does both at once."""
        if self.is_open and self.panes[-1].name == event.name:
            self.panes[-1].closed = event.closed
        else:
            self.panes.append(copy.copy(event))
        self.is_open = not event.closed


async def whole(turn: Turn) -> Answer:
    """Listen to the end. Raises Failed when the turn fails."""
    heard, decision = Heard(), Decision()
    async for event in turn:
        match event:
            case Decision():
                decision = event
            case Text():
                heard.text(event.delta)
            case AnswerPane():
                heard.pane(event)
            case Done():
                return Answer("".join(heard.texts), heard.panes, turn.name, turn.conversation, decision, event)
    raise AssertionError("a turn ends with Done or raises")
