"""The topics as Kafka keeps them: made with the partitions of `topics.TOPICS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError, for_code

from services.common.log.log import Place
from services.common.log.topics import TOPICS, Topic

LARGEST_BATCH = 4 * 1024 * 1024
COPIES = 3


async def make(admin: Any) -> Sequence[str]:
    """Make topics, and partitions, that are missing. Returns the topics that were made."""
    found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    brokers = len((await admin.describe_cluster())["brokers"])
    missing = [topic for topic in TOPICS.values() if topic.name not in found]
    if missing:
        check(await admin.create_topics([new(topic, brokers) for topic in missing]))
    small = {t.name: NewPartitions(t.parts) for t in TOPICS.values() if found.get(t.name, t.parts) < t.parts}
    if small:
        await admin.create_partitions(small)
    return [topic.name for topic in missing]


async def trim(admin: Any, starts: Mapping[Place, int]) -> None:
    await admin.delete_records({TopicPartition(*place): RecordsToDelete(start) for place, start in starts.items()})


def new(topic: Topic, brokers: int) -> NewTopic:
    copies = min(COPIES, brokers)
    return NewTopic(topic.name, topic.parts, copies, topic_configs=settings(copies))


def settings(copies: int) -> dict[str, str]:
    """What one broker acknowledges is on its disk, since no other has a copy. Old records go when the workers'
    retention says so: brokers know nothing of the archive."""
    safe = {"flush.messages": "1"} if copies == 1 else {"min.insync.replicas": str(copies - 1)}
    return {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(LARGEST_BATCH),
        **safe,
    }


def check(response: Any) -> None:
    """Another process that was faster is no fault."""
    for name, code, *words in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"The topic {name} cannot be made: {words[0] if words else code}")
