"""The event log in one picture, as plain values: topics, groups, what waits to get in, the trails, the archive."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.common.clock import rfc3339
from services.common.db import Database
from services.common.log.log import Log, Place
from services.common.log.topics import TOPICS

Picture = dict[str, Any]
Ends = Mapping[Place, tuple[int, int]]
MINUTE = timedelta(minutes=1)
COUNTED = 1_000_000
"""More rows than that are not counted."""

OUTBOX = """
SELECT (SELECT count(*) FROM (SELECT FROM soma.outbox LIMIT $1) AS counted) AS events,
       (SELECT create_time FROM soma.outbox ORDER BY seq LIMIT 1) AS oldest,
       (SELECT count(*) FROM soma.outbox_aside) AS aside
"""
LETTERS = """
SELECT "group", count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'dead') AS dead
FROM soma.retries WHERE state <> 'dropped' GROUP BY "group"
"""
READERS = 'SELECT DISTINCT "group", topic FROM soma.log_groups'
"""Also of a group that has committed nothing yet, where Postgres is the log."""
TRAILS = """
SELECT tree.tenant, head.size, head.time, encode(head.key_id, 'hex') AS key FROM soma.audit_trees AS tree, LATERAL (
    SELECT size, time, key_id FROM soma.tree_heads AS head WHERE head.tenant = tree.tenant ORDER BY size DESC LIMIT 1
) AS head ORDER BY tree.tenant
"""
ARCHIVE = "SELECT count(*) AS objects, coalesce(sum(bytes), 0)::bigint AS bytes, max(time) AS newest FROM soma.archived"


async def picture(db: Database, log: Log, engine: str) -> Picture:
    """As of now. Times are RFC 3339; null where nothing is or waits."""
    now = datetime.now(UTC)
    ends = {topic: await log.ends(topic) for topic in TOPICS}
    (outbox,), letters, readers = await db.look(OUTBOX, COUNTED), await db.look(LETTERS), await db.look(READERS)
    (archive,), trails = await db.look(ARCHIVE), await db.look(TRAILS)
    return {
        "time": rfc3339(now),
        "engine": engine,
        "topics": [await topic_of(log, name, ends[name], now - MINUTE) for name in TOPICS],
        "outbox": {"events": outbox["events"], "oldest": told(outbox["oldest"]), "aside": outbox["aside"]},
        "groups": await groups_of(log, ends, {row["group"]: row for row in letters}, [tuple(row) for row in readers]),
        "trails": [dict(row) | {"time": rfc3339(row["time"])} for row in trails],
        "archive": dict(archive) | {"newest": told(archive["newest"])},
    }


async def topic_of(log: Log, name: str, ends: Ends, minute_ago: datetime) -> Picture:
    """`events` are those that the log still has; `last_minute` those that came in it."""
    since = await log.at(name, minute_ago)
    return {
        "topic": name,
        "parts": TOPICS[name].parts,
        "events": sum(after - first for first, after in ends.values()),
        "last_minute": sum(after - since.get(place, after) for place, (_, after) in ends.items()),
    }


async def groups_of(
    log: Log, ends: Mapping[str, Ends], letters: Mapping[str, Any], readers: Collection[tuple[str, str]]
) -> Sequence[Picture]:
    """Each with how many events it has before it, by topic, and since when the oldest of them is in the log."""
    groups = []
    for name in sorted({*await log.groups(), *letters, *(name for name, _ in readers)}):
        standing = await log.standing(name)
        topics = sorted({topic for topic, _ in standing} | {topic for group, topic in readers if group == name})
        before = {topic: before_it(standing, ends.get(topic, {})) for topic in topics}
        starts = [(place, start) for spans in before.values() for place, (start, _) in spans.items()]
        oldest = [entry.time for place, start in starts for entry in await log.read(place, start, 1)]
        kept = letters.get(name, {"waiting": 0, "dead": 0})
        groups.append({
            "group": name,
            "lag": {topic: sum(after - start for start, after in spans.values()) for topic, spans in before.items()},
            "oldest": told(min(oldest, default=None)),
            "retries": kept["waiting"],
            "dead": kept["dead"],
        })  # fmt: skip
    return groups


def before_it(standing: Mapping[Place, int], ends: Ends) -> Ends:
    """Partitions in which something is before a group: from which offset to which."""
    spans = {place: (max(standing.get(place, 0), first), after) for place, (first, after) in ends.items()}
    return {place: (start, after) for place, (start, after) in spans.items() if start < after}


def told(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
