"""Layouts in Postgres: how a person has arranged the panes of a conversation."""

from __future__ import annotations

from uuid import UUID

from services.canvas.names import layout_name, pane_name, pane_of
from services.common.db import Record, Transaction
from soma.canvas.v1.canvas_pb2 import Layout

LAYOUT = "SELECT conversation, panes, active, beside, change FROM layouts WHERE subject = $1 AND conversation = $2"
SINCE = LAYOUT + " AND revision > $3"
PUT = """
INSERT INTO layouts (subject, conversation, panes, active, beside, revision) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (conversation, subject) DO UPDATE SET panes = excluded.panes, active = excluded.active,
    beside = excluded.beside, revision = excluded.revision, change = layouts.change + 1
"""


async def layout(tx: Transaction, conversation: UUID) -> Layout:
    """An empty one when nothing was arranged yet."""
    row = await tx.fetchrow(LAYOUT, tx.caller.subject, conversation)
    return as_layout(row) if row else Layout(name=layout_name(conversation), etag="0")


async def since(tx: Transaction, conversation: UUID, revision: int) -> Layout | None:
    """The layout if it has changed since."""
    row = await tx.fetchrow(SINCE, tx.caller.subject, conversation, revision)
    return as_layout(row) if row else None


async def put(tx: Transaction, conversation: UUID, new: Layout, revision: int) -> None:
    panes = [pane_of(conversation, name) for name in new.panes]
    front = pane_of(conversation, new.active), pane_of(conversation, new.beside)
    await tx.execute(PUT, tx.caller.subject, conversation, panes, *front, revision)


def as_layout(row: Record) -> Layout:
    conversation: UUID = row["conversation"]

    def name(pane: UUID | None) -> str:
        return pane_name((conversation, pane)) if pane else ""

    return Layout(
        name=layout_name(conversation),
        panes=[name(pane) for pane in row["panes"]],
        active=name(row["active"]),
        beside=name(row["beside"]),
        etag=str(row["change"]),
    )
