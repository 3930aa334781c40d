"""Canvases and panes in Postgres. The schema is the tenant's: search_path and role are the transaction's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.canvas.etags import etag_of
from services.canvas.limits import Held
from services.canvas.names import PaneIds, pane_name
from services.common import pages
from services.common.db import Record, Transaction
from soma.canvas.v1.canvas_pb2 import Pane

LATE_S = 30
"""How long after its deletion a conversation is remembered to be gone: longer than a call that was let in before."""
WRITING_S = 10
"""How long a turn is believed to write after it last did."""

HOLD = """
INSERT INTO canvases (conversation, subject, revision) VALUES ($1, $2, 1)
ON CONFLICT (conversation, subject) DO UPDATE SET revision = canvases.revision + 1, delete_time = NULL
WHERE canvases.delete_time IS NULL OR canvases.delete_time < now() - make_interval(secs => $3)
RETURNING revision
"""


async def hold(tx: Transaction, conversation: UUID) -> int | None:
    """The canvas' next revision, and the canvas held until commit. None when it was deleted just now."""
    revision: int | None = await tx.fetchval(HOLD, conversation, tx.caller.subject, LATE_S)
    return revision


DROP_PANES = "DELETE FROM panes WHERE conversation = $1 AND subject = $2"
DROP_GONE = "DELETE FROM gone_panes WHERE conversation = $1 AND subject = $2"
DROP_LAYOUT = "DELETE FROM layouts WHERE conversation = $1 AND subject = $2"
MARK_DELETED = "UPDATE canvases SET floor = revision, delete_time = now() WHERE conversation = $1 AND subject = $2"
FORGET = """
DELETE FROM canvases WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM canvases WHERE delete_time < now() - interval '1 day' LIMIT 100 FOR UPDATE SKIP LOCKED
))
"""


async def drop(tx: Transaction, conversation: UUID) -> None:
    """Delete all that a held canvas holds, and remember for a while that it is gone."""
    for statement in (DROP_PANES, DROP_GONE, DROP_LAYOUT, MARK_DELETED):
        await tx.execute(statement, conversation, tx.caller.subject)
    await tx.execute(FORGET)


HELD = """
SELECT count(*) AS panes, coalesce(sum(size_bytes), 0)::bigint AS text_bytes,
       (array_agg(id ORDER BY size_bytes DESC))[1] AS largest
FROM panes WHERE conversation = $1 AND subject = $2
"""


async def held(tx: Transaction, conversation: UUID) -> Held:
    [row] = await tx.fetch(HELD, conversation, tx.caller.subject)
    largest = pane_name((conversation, row["largest"])) if row["largest"] else ""
    return Held(row["panes"], row["text_bytes"], largest)


@dataclass(frozen=True, slots=True)
class Kept:
    """A pane, and what the room knows of it beside."""

    id: UUID
    pane: Pane
    writer: str
    """The turn that wrote the newest version. Empty: a person."""
    open: bool
    """That turn has not said that it is finished."""
    named: bool
    """A person chose title or language."""
    writing_s: float
    """How long it is still believed to be written, if it is."""

    @property
    def size_bytes(self) -> int:
        return len(self.pane.text.encode())


PANE_COLUMNS = """
SELECT conversation, id, kind, title, language, text, version, change, author, turn, writer, named,
       create_time, update_time, writing_until IS NOT NULL AS open,
       extract(epoch FROM writing_until - now())::float8 AS writing_s
FROM panes
"""
PANE = PANE_COLUMNS + "WHERE subject = $1 AND conversation = $2 AND id = $3"


async def pane(tx: Transaction, ids: PaneIds) -> Kept | None:
    row = await tx.fetchrow(PANE, tx.caller.subject, *ids)
    return as_kept(row) if row else None


SIZES = """
SELECT id, size_bytes FROM panes WHERE subject = $1 AND conversation = $2 AND id < $3 ORDER BY id DESC LIMIT $4
"""
PANES = PANE_COLUMNS + "WHERE subject = $1 AND conversation = $2 AND id < $3 AND id >= $4 ORDER BY id DESC"


async def panes(tx: Transaction, conversation: UUID, before: UUID, most: int) -> tuple[list[Pane], UUID | None]:
    """A page, newest first, of what fits into one; and where it ends, when there are more. What is deleted meanwhile is
    missing in it."""
    sizes = await tx.fetch(SIZES, tx.caller.subject, conversation, before, most + 1)
    count = pages.fitting([row["size_bytes"] for row in sizes[:most]])
    if not count:
        return [], None
    last: UUID = sizes[count - 1]["id"]
    rows = await tx.fetch(PANES, tx.caller.subject, conversation, before, last)
    return [as_kept(row).pane for row in rows], last if count < len(sizes) else None


ADD = """
INSERT INTO panes (conversation, id, subject, kind, title, language, text, size_bytes, author, turn, writer,
                   writing_until, revision, create_time, version_time, update_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, octet_length($7), $8, $9, $9, now() + make_interval(secs => $10), $11, $12, $12,
        $12)
"""


async def add(
    tx: Transaction, ids: PaneIds, asked: Pane, revision: int, now: datetime, *, turn: str = "", writing: bool = False
) -> None:
    """A pane of a person, or of a turn, which may still be writing it."""
    author, kind = "agent" if turn else "person", asked.kind or "code"
    texts = (kind, asked.title, asked.language, asked.text)
    lease_s = WRITING_S if writing else None
    await tx.execute(ADD, *ids, tx.caller.subject, *texts, author, turn, lease_s, revision, now)


NAME = """
UPDATE panes SET title = $4, language = $5, named = true, change = change + 1, revision = $6, update_time = $7
WHERE subject = $1 AND conversation = $2 AND id = $3
"""
KEEP_VERSION = """
INSERT INTO pane_versions (conversation, subject, pane, version, title, language, text, size_bytes, author, create_time)
SELECT conversation, subject, id, version, title, language, text, size_bytes, author, version_time
FROM panes WHERE subject = $1 AND conversation = $2 AND id = $3
"""
NEXT_VERSION = """
UPDATE panes SET title = $4, language = $5, text = $6, size_bytes = octet_length($6), named = $7, author = $8,
    writer = $9, writing_until = now() + make_interval(secs => $10), revision = $11, version_time = $12,
    update_time = $12, version = version + 1, change = 1
WHERE subject = $1 AND conversation = $2 AND id = $3
"""
AMEND = """
UPDATE panes SET title = $4, language = $5, text = $6, size_bytes = octet_length($6),
    writing_until = now() + make_interval(secs => $7), revision = $8, update_time = $9, change = change + 1
WHERE subject = $1 AND conversation = $2 AND id = $3
"""


async def name(tx: Transaction, ids: PaneIds, asked: Pane, revision: int, now: datetime) -> None:
    """A person's title and language. The version stays, and who writes it."""
    await tx.execute(NAME, tx.caller.subject, *ids, asked.title, asked.language, revision, now)


async def renew(
    tx: Transaction,
    ids: PaneIds,
    asked: Pane,
    revision: int,
    now: datetime,
    *,
    named: bool,
    turn: str = "",
    writing: bool = False,
) -> None:
    """A new version by a person, or by a turn; what the pane held becomes an old one."""
    await tx.execute(KEEP_VERSION, tx.caller.subject, *ids)
    texts, author = (asked.title, asked.language, asked.text), "agent" if turn else "person"
    lease_s = WRITING_S if writing else None
    await tx.execute(NEXT_VERSION, tx.caller.subject, *ids, *texts, named, author, turn, lease_s, revision, now)


async def amend(tx: Transaction, ids: PaneIds, asked: Pane, revision: int, now: datetime, *, writing: bool) -> None:
    """More of the version that a turn writes."""
    texts, lease_s = (asked.title, asked.language, asked.text), WRITING_S if writing else None
    await tx.execute(AMEND, tx.caller.subject, *ids, *texts, lease_s, revision, now)


DROP = "DELETE FROM panes WHERE subject = $1 AND conversation = $2 AND id = $3"
LEAVE_TRACE = "INSERT INTO gone_panes (subject, conversation, pane, revision) VALUES ($1, $2, $3, $4)"
TAKE_OUT = """
UPDATE layouts SET panes = array_remove(panes, $3), active = nullif(active, $3), beside = nullif(beside, $3),
    change = change + 1, revision = $4
WHERE subject = $1 AND conversation = $2 AND ($3 = ANY (panes) OR active = $3 OR beside = $3)
"""
FORGET_TRACES = """
WITH forgotten AS (
    DELETE FROM gone_panes WHERE subject = $1 AND conversation = $2 AND revision <= (
        SELECT revision FROM gone_panes WHERE subject = $1 AND conversation = $2
        ORDER BY revision DESC OFFSET $3 LIMIT 1
    ) RETURNING revision
)
UPDATE canvases SET floor = coalesce((SELECT max(revision) FROM forgotten), floor)
WHERE subject = $1 AND conversation = $2 AND EXISTS (SELECT FROM forgotten)
"""
IS_GONE = "SELECT true FROM gone_panes WHERE subject = $1 AND conversation = $2 AND pane = $3"


async def delete(tx: Transaction, ids: PaneIds, revision: int, most_gone: int) -> None:
    """A pane with its versions, also out of the layout. That it was there is remembered for those who watch."""
    await tx.execute(DROP, tx.caller.subject, *ids)
    await tx.execute(LEAVE_TRACE, tx.caller.subject, *ids, revision)
    await tx.execute(TAKE_OUT, tx.caller.subject, *ids, revision)
    await tx.execute(FORGET_TRACES, tx.caller.subject, ids[0], most_gone)


async def is_gone(tx: Transaction, ids: PaneIds) -> bool:
    return bool(await tx.fetchval(IS_GONE, tx.caller.subject, *ids))


SOME = PANE_COLUMNS + "WHERE subject = $1 AND conversation = $2 AND id = ANY ($3) ORDER BY revision"


async def some(tx: Transaction, conversation: UUID, ids: Sequence[UUID]) -> list[Kept]:
    """Those of these panes that are there."""
    return [as_kept(row) for row in await tx.fetch(SOME, tx.caller.subject, conversation, ids)]


WHICH = "SELECT id FROM panes WHERE subject = $1 AND conversation = $2 AND id = ANY ($3)"


async def which(tx: Transaction, conversation: UUID, among: Sequence[UUID]) -> frozenset[UUID]:
    """Those that are panes of the conversation."""
    rows = await tx.fetch(WHICH, tx.caller.subject, conversation, among)
    return frozenset(row["id"] for row in rows)


def as_kept(row: Record) -> Kept:
    left_s = row["writing_s"] or 0.0
    found = Pane(
        name=pane_name((row["conversation"], row["id"])),
        kind=row["kind"],
        title=row["title"],
        language=row["language"],
        text=row["text"],
        etag=etag_of(row["version"], row["change"]),
        version=row["version"],
        state=Pane.STATE_WRITING if left_s > 0 else Pane.STATE_READY,
        author=row["author"],
        turn=row["turn"],
    )
    found.create_time.FromDatetime(row["create_time"])
    found.update_time.FromDatetime(row["update_time"])
    return Kept(row["id"], found, row["writer"], row["open"], row["named"], left_s)
