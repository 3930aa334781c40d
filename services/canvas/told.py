"""What the room tells the event log: ids and sizes; what is in a pane is sealed by `events.append`. Pure."""

from __future__ import annotations

from services.canvas.names import pane_ids
from services.common.names import conversation_name
from soma.canvas.v1.canvas_pb2 import Pane
from soma.events.v1alpha1.message_pb2 import MessageEvent


def of_pane(kind: str, pane: Pane, turn: str = "") -> MessageEvent:
    """pane.created, .updated or .deleted; by a turn, or by a person."""
    ids = pane_ids(pane.name)
    return MessageEvent(
        type=f"pane.{kind}",
        conversation=conversation_name(ids[0]),
        pane=pane.name,
        turn=turn or None,
        size_bytes=len(pane.text.encode()),
    )
