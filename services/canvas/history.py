"""Versions of panes in Postgres: the old ones, and the newest, which is the pane itself."""

from __future__ import annotations

from uuid import UUID

from services.canvas.limits import Limits
from services.canvas.names import PaneIds, version_name
from services.common.db import Record, Transaction
from soma.canvas.v1.canvas_pb2 import PaneVersion

NEWEST = """
SELECT conversation, id AS pane, version, title, language, text, size_bytes, author, version_time AS create_time
FROM panes WHERE subject = $1 AND conversation = $2 AND id = $3 AND version = $4
"""
OLD = """
SELECT conversation, pane, version, title, language, text, size_bytes, author, create_time
FROM pane_versions WHERE subject = $1 AND conversation = $2 AND pane = $3 AND version = $4
"""


async def version(tx: Transaction, ids: PaneIds, number: int) -> PaneVersion | None:
    for statement in (NEWEST, OLD):
        if row := await tx.fetchrow(statement, tx.caller.subject, *ids, number):
            return as_version(row, row["text"])
    return None


LISTED = """
SELECT conversation, id AS pane, version, title, language, size_bytes, author, version_time AS create_time
FROM panes WHERE subject = $1 AND conversation = $2 AND id = $3 AND version < $4
UNION ALL
SELECT conversation, pane, version, title, language, size_bytes, author, create_time
FROM pane_versions WHERE subject = $1 AND conversation = $2 AND pane = $3 AND version < $4
ORDER BY version DESC LIMIT $5
"""


async def versions(tx: Transaction, ids: PaneIds, before: int, most: int) -> list[PaneVersion]:
    """Newest first, without texts."""
    return [as_version(row) for row in await tx.fetch(LISTED, tx.caller.subject, *ids, before, most)]


PRUNE = """
DELETE FROM pane_versions WHERE subject = $1 AND conversation = $2 AND pane = $3 AND version <= (
    SELECT max(version) FROM (
        SELECT version, row_number() OVER (ORDER BY version DESC) AS nth,
               sum(size_bytes) OVER (ORDER BY version DESC) AS so_far
        FROM pane_versions WHERE subject = $1 AND conversation = $2 AND pane = $3
    ) AS old WHERE nth >= $5 OR so_far + $4 > $6
)
"""


async def prune(tx: Transaction, ids: PaneIds, newest_bytes: int, limits: Limits) -> None:
    """Let go of the oldest versions that do not fit beside the newest."""
    await tx.execute(PRUNE, tx.caller.subject, *ids, newest_bytes, limits.versions, limits.version_bytes)


def as_version(row: Record, text: str = "") -> PaneVersion:
    ids: tuple[UUID, UUID] = (row["conversation"], row["pane"])
    found = PaneVersion(
        name=version_name(ids, row["version"]),
        version=row["version"],
        title=row["title"],
        language=row["language"],
        text=text,
        size_bytes=row["size_bytes"],
        author=row["author"],
    )
    found.create_time.FromDatetime(row["create_time"])
    return found
