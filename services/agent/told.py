"""What the room tells the event log: ids and sizes; what people wrote is sealed by `events.append`. Pure."""

from __future__ import annotations

from uuid import UUID

from services.agent.names import turn_name
from services.agent.store import Ended
from services.common.names import conversation_name
from soma.events.v1alpha1.message_pb2 import MessageEvent

TURN_ENDED = {"done": "turn.answered", "failed": "turn.failed", "cancelled": "turn.cancelled"}


def of_conversation(kind: str, conversation: UUID) -> MessageEvent:
    """conversation.created or .deleted, with no text of its own: a title that a question gives is in the question."""
    return MessageEvent(type=f"conversation.{kind}", conversation=conversation_name(conversation))


def titled(kind: str, conversation: UUID, title: str) -> MessageEvent:
    """conversation.created or .updated, by whoever wrote the title."""
    return measured(of_conversation(kind, conversation), title)


def asked(ids: tuple[UUID, UUID], question: str) -> MessageEvent:
    event = MessageEvent(type="turn.asked", conversation=conversation_name(ids[0]), turn=turn_name(*ids))
    return measured(event, question)


def ended(ids: tuple[UUID, UUID], ended: Ended) -> MessageEvent:
    event = MessageEvent(
        type=TURN_ENDED[ended.state],
        conversation=conversation_name(ids[0]),
        turn=turn_name(*ids),
        cost_microusd=ended.cost_microusd,
        reason=ended.error.reason if ended.error else None,
    )
    return measured(event, ended.answer)


def measured(event: MessageEvent, text: str) -> MessageEvent:
    event.size_bytes = len(text.encode())
    return event
