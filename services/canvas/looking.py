"""What has changed in a canvas since a revision, in Postgres."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from services.canvas import arrangement
from services.canvas.store import LATE_S
from services.common.db import Transaction
from soma.canvas.v1.canvas_pb2 import Layout


@dataclass(frozen=True, slots=True)
class Changed:
    """A pane that is to be shown (again)."""

    id: UUID
    revision: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    revision: int
    """Of the canvas. What is newer may be in here too, and comes again with the next look."""
    deleted: bool = False
    whole: bool = False
    """This is all that the canvas holds, not what changed."""
    gone: list[UUID] = field(default_factory=list)
    layout: Layout | None = None
    panes: list[Changed] = field(default_factory=list)
    """By revision."""


ENTER = "INSERT INTO canvases (conversation, subject, revision) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING"


async def enter(tx: Transaction, conversation: UUID) -> None:
    """Let there be a canvas: one that is there no more was deleted."""
    await tx.execute(ENTER, conversation, tx.caller.subject)


CANVAS = """
SELECT revision, floor, coalesce(delete_time > now() - make_interval(secs => $3), false) AS deleted
FROM canvases WHERE subject = $1 AND conversation = $2
"""
GONE = "SELECT pane FROM gone_panes WHERE subject = $1 AND conversation = $2 AND revision > $3 ORDER BY revision"
PANES = """
SELECT id, revision, size_bytes FROM panes
WHERE subject = $1 AND conversation = $2 AND (revision > $3 OR id = ANY ($4) OR ($5 AND writing_until IS NOT NULL))
ORDER BY revision
"""


async def look(
    tx: Transaction, conversation: UUID, after: int, due: Collection[UUID] = (), *, first: bool = False
) -> Look:
    """What changed after a revision, and the panes that are `due`. All there is when that is too long ago. The first
    look of a watch is at all there is after 0, and else also at panes that a turn writes or has left: it is time that
    changes their state."""
    me = tx.caller.subject, conversation
    canvas = await tx.fetchrow(CANVAS, *me, LATE_S)
    if canvas is None or canvas["deleted"]:
        return Look(after, deleted=True)
    revision, whole = canvas["revision"], after < canvas["floor"] or (first and not after)
    if revision == after and not (whole or due or first):
        return Look(revision)
    since = 0 if whole else after
    gone = [] if whole else [row["pane"] for row in await tx.fetch(GONE, *me, since)]
    layout = await arrangement.layout(tx, conversation) if whole else await arrangement.since(tx, conversation, since)
    rows = await tx.fetch(PANES, *me, since, list(due), first)
    panes = [Changed(**row) for row in rows]
    return Look(revision, whole=whole, gone=gone, layout=layout, panes=panes)


STATES = """
SELECT conversation, max(revision) AS revision, bool_or(delete_time IS NOT NULL) AS deleted
FROM canvases WHERE conversation = ANY ($1) GROUP BY conversation
"""


async def states(tx: Transaction, conversations: Collection[UUID]) -> dict[UUID, int]:
    """The revisions of those canvases of a tenant that are there."""
    rows = await tx.fetch(STATES, list(conversations))
    return {row["conversation"]: row["revision"] for row in rows if not row["deleted"]}
