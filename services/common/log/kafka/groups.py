"""Consumer groups seen from outside: where they stand, and how they are put elsewhere."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    IllegalGenerationError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import LeaveGroupRequest

from services.common.log.kafka.link import AGAIN_S, Link, patiently
from services.common.log.log import Place
from services.common.log.topics import TOPICS

EARLY = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


async def groups(admin: Any) -> Sequence[str]:
    """Those that have committed something on one of our topics."""
    names = sorted({name for name, *_ in await admin.list_consumer_groups()})
    return [name for name in names if await standing(admin, name)]


async def standing(admin: Any, group: str) -> Mapping[Place, int]:
    return placed(await admin.list_consumer_group_offsets(group))


def placed(offsets: Mapping[Any, Any]) -> dict[Place, int]:
    return {(p.topic, p.partition): at.offset for p, at in offsets.items() if p.topic in TOPICS and at.offset >= 0}


async def stand(link: Link, group: str, places: Mapping[Place, int]) -> None:
    """Kafka moves a group that has no members only. So its members are shown out, which also voids what they were about
    to commit, and the offsets are set before they are back: they find out at their next heartbeat, join anew, and begin
    there. One that was faster is shown out again."""
    async with asking(link) as client:
        while not await patiently(lambda: stood(client, group, places)):
            await asyncio.sleep(AGAIN_S)


async def stood(client: Any, group: str, places: Mapping[Place, int]) -> bool:
    """Whether nobody was back too early."""
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    for member in await members(client, node, group):
        await client.send(node, LeaveGroupRequest(group, member))
    fault = await commit(client, node, group, places)
    if fault in (NoError, *EARLY):
        return fault is NoError
    raise fault()


async def members(client: Any, node: int, group: str) -> Sequence[str]:
    answer = await client.send(node, DescribeGroupsRequest([group]))
    (code, _, _, _, _, found, *_), *_ = answer.groups
    if code:
        raise for_code(code)()
    return [member[0] for member in found]


async def commit(client: Any, node: int, group: str, places: Mapping[Place, int]) -> Any:
    """As nobody's member, which counts while there is none. Returns the class of the first error."""
    by_topic = defaultdict(list)
    for (topic, part), offset in places.items():
        by_topic[topic].append((part, offset, ""))
    generation, retention = OffsetCommitRequest.DEFAULT_GENERATION_ID, OffsetCommitRequest.DEFAULT_RETENTION_TIME
    answer = await client.send(node, OffsetCommitRequest(group, generation, "", retention, list(by_topic.items())))
    codes = [code for _, parts in answer.topics for _, code in parts]
    return next((for_code(code) for code in codes if code), NoError)


@asynccontextmanager
async def asking(link: Link) -> AsyncIterator[Any]:
    client = AIOKafkaClient(**link.options)
    try:
        await client.bootstrap()
        yield client
    finally:
        await client.close()
