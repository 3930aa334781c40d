"""The one door to Valkey (Redis). Every key begins with {tenant}, so that a cluster keeps a tenant's keys together;
what belongs to no tenant begins with a word of its own in the same braces.

Nothing lives only here that may not be lost: callers go on without it when it is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError, ResponseError

from services.common.errors import Unavailable

WAIT_S = 2.0
CONNECT_S = 1.0
PING_S = 1.0
SCANNED = 1000
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

Words: TypeAlias = tuple[str | bytes | int, ...]
"""A command with what it needs."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Numbered streams of bytes, and news for whoever listens. Raises Unavailable STORE_UNAVAILABLE when Valkey is
    away."""

    redis: Redis

    async def append(self, key: str, first: int, entries: Sequence[bytes], *, keep_s: int = 0) -> None:
        """Append entries numbered from `first`. Those that are there already stay as they are. With `keep_s` the whole
        is forgotten that many seconds from now."""
        with cache_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for number, entry in enumerate(entries, start=first):
                    pipe.xadd(key, {"e": entry}, id=f"{number}-0")
                if keep_s:
                    pipe.expire(key, keep_s)
                for result in await pipe.execute(raise_on_error=False):
                    if isinstance(result, RedisError) and not isinstance(result, ResponseError):
                        raise result

    async def after(self, key: str, number: int, *, wait_s: float = 0) -> list[tuple[int, bytes]]:
        """Entries numbered above `number`, oldest first, at most 1,000; waits up to `wait_s` for the first."""
        with cache_errors():
            block = int(wait_s * 1000) or None
            found = await self.redis.xread({key: f"{number}-0"}, count=1000, block=block)
        streams = found.values() if isinstance(found, dict) else [rows for _, rows in found or []]
        return [(int(entry_id.split(b"-")[0]), fields[b"e"]) for rows in streams for entry_id, fields in flat(rows)]

    async def keys(self, pattern: str) -> AsyncIterator[str]:
        """Names that match the glob pattern. One that comes or goes meanwhile may be among them or not."""
        with cache_errors():
            async for name in self.redis.scan_iter(match=pattern, count=SCANNED):
                yield name.decode()

    async def forget(self, keys: Sequence[str]) -> None:
        with cache_errors():
            await self.redis.unlink(*keys)

    async def time_ms(self) -> int:
        """By Valkey's own clock, since 1970."""
        with cache_errors():
            seconds, microseconds = await self.redis.time()
        return seconds * 1000 + microseconds // 1000

    async def claim(self, key: str, owner: bytes, keep_s: int) -> bytes | None:
        """Who has had the key until now. None: from now on it is the owner's, for so many seconds."""
        with cache_errors():
            held = await self.redis.set(key, owner, nx=True, get=True, ex=keep_s)
        return held if isinstance(held, bytes) else None

    async def together(self, commands: Sequence[Words]) -> list[Any]:
        """Their answers, after one round trip. When one is refused the others may have been done."""
        with cache_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for words in commands:
                    pipe.execute_command(*words)
                return await pipe.execute()

    async def publish(self, channel: str, news: bytes) -> None:
        """Tell whoever listens now. Nobody else will hear of it."""
        with cache_errors():
            await self.redis.publish(channel, news)

    @asynccontextmanager
    async def listening(self, pattern: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Channels that match the glob pattern, and the news on them, from now on, over a connection of its own. The
        iterator ends by Unavailable when the connection is lost: what was told meanwhile is missed."""
        pubsub = self.redis.pubsub()
        try:
            with cache_errors():
                async with asyncio.timeout(WAIT_S):
                    await pubsub.psubscribe(pattern)
                    while not is_kind(await pubsub.get_message(timeout=None), "psubscribe"):
                        pass
            yield heard(pubsub)
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]


async def heard(pubsub: PubSub) -> AsyncIterator[tuple[str, bytes]]:
    """News as they come. Silence is asked whether it is alive."""
    silent = 0
    while True:
        with cache_errors():
            message = await pubsub.get_message(timeout=PING_S)
            silent = 0 if message else silent + 1
            if silent * PING_S > WAIT_S:
                raise TimeoutError
            if message is None:
                await pubsub.ping()
        if message is not None and is_kind(message, "pmessage"):
            yield message["channel"].decode(), message["data"]


def released(key: str, owner: bytes) -> Words:
    """Gives a claimed key back, if it is still the owner's."""
    return "EVAL", RELEASE, 1, key, owner


def is_kind(message: dict[str, Any] | None, kind: str) -> bool:
    return message is not None and message["type"] == kind


def flat(rows: list) -> list:  # type: ignore[type-arg]
    """RESP3 nests a stream's rows one deeper than RESP2."""
    return rows[0] if rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], (list, tuple)) else rows


class cache_errors:  # noqa: N801 - reads as a phrase: with cache_errors()
    """Turns Valkey's absence into Unavailable STORE_UNAVAILABLE. A cancellation that redis-py loses, in
    `asyncio.wait_for` of Python 3.11 when the answer comes at the same moment, is raised after all."""

    __slots__ = ("_cancelling",)

    def __enter__(self) -> None:
        self._cancelling = cancelling()

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, (RedisError, OSError, TimeoutError)):
            raise Unavailable("STORE_UNAVAILABLE", "The cache does not answer. Try again.", retry_after_s=1) from fault
        if fault is None and cancelling() > self._cancelling:
            raise asyncio.CancelledError


def cancelling() -> int:
    """How many times the present task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


@asynccontextmanager
async def open_cache(url: str, *, connections: int = 32) -> AsyncIterator[Cache]:
    """Connections are made when they are needed: a room starts without Valkey too."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=WAIT_S, socket_timeout=WAIT_S + 2, socket_connect_timeout=CONNECT_S
    )
    redis = Redis(connection_pool=pool)
    try:
        yield Cache(redis)
    finally:
        await redis.aclose()
        await pool.aclose()
