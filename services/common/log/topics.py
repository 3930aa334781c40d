"""The topics of the log: how many partitions, and how long events stay before only the archive has them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

SLOTS = 16


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    parts: int
    """Divides 16, so that a key's slot gives its partition."""
    days: int
    """How long at least."""


TOPICS = {
    topic.name: topic
    for topic in (
        Topic("agent.messages", 8, 30),
        Topic("agent.memory", 4, 30),
        Topic("agent.audit", 8, 30),
        Topic("agent.routing", 4, 30),
        Topic("agent.tool", 4, 30),
        Topic("somastack.delegation", 4, 30),
        Topic("mode.changed", 1, 90),
        Topic("enterprise.mode.changed", 1, 90),
    )
}


def part(topic: str, key: str) -> int:
    """The partition that a key's events are in."""
    return slot(key) % TOPICS[topic].parts


def slot(key: str) -> int:
    """0 to 15, the same in all places and for good: partitions and shards are this modulo their number."""
    return crc32(key.encode()) % SLOTS
