"""Vectors of texts, from a server of OpenAI's /v1/embeddings: MiniLM in the local model process, or a provider.

`vectors_from` is for who wants them and is told why there are none. `Embedder.vector` is for a decision: it is
remembered, waits for a moment at most, and is None rather than a fault.
"""

from __future__ import annotations

import asyncio
from array import array
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from time import monotonic
from typing import TypeAlias

import aiohttp
import msgspec

from services.common.errors import Exhausted, Invalid, Refusal, Unavailable
from services.common.learning.gist import gist

LOCAL_MODEL = "all-MiniLM-L6-v2"
PATIENCE_S = 0.05
"""A decision waits no longer. On one core ten words take a quarter of that, and the longest gist two thirds."""
FLIGHT_S = 2.0
"""A vector that comes so late is remembered for the next decision."""
MOST_FLIGHTS = 4
"""Questions on their way. One more would not be answered within PATIENCE_S, so it is not asked."""
REST_S = 2.0
"""A server that failed is not asked for so long; then one question at a time, until one is answered."""
ANSWER_S = 60.0
CONNECT_S = 2.0
CONNECTIONS = 32
MOST_ANSWER_BYTES = 16 * 1024 * 1024
MOST_PAUSE_S = 300
MOST_CACHED = 4096
MOST_CACHED_BYTES = 16 * 1024 * 1024
ENTRY_BYTES = 512
"""What an entry of the cache costs beside its numbers."""

Vector: TypeAlias = "array[float]"
"""float32, as they lie in memory."""
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model that makes vectors, and where it is."""

    name: str
    """What it is called in a sentence."""
    base_url: str
    """Before /embeddings; empty: there is none."""
    model: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Vectors:
    """One a text, in order. Tokens are None when they were not counted."""

    vectors: Sequence[Vector]
    tokens: int | None


class Item(msgspec.Struct, frozen=True):
    embedding: str | list[float]
    index: int = 0


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = -1


class Answer(msgspec.Struct, frozen=True):
    data: list[Item]
    usage: Usage | None = None


decode = msgspec.json.Decoder(Answer).decode


async def vectors_from(
    session: aiohttp.ClientSession, endpoint: Endpoint, texts: Sequence[str], within_s: float = ANSWER_S
) -> Vectors:
    """Raises Unavailable MODEL_UNAVAILABLE, Exhausted MODEL_BUSY, or Invalid REQUEST_INVALID for texts that the model
    does not accept. What it answered then is never shown."""
    if not endpoint.base_url:
        raise unavailable(f"No model runs here that makes vectors ({endpoint.model}).")
    try:
        async with asyncio.timeout(within_s):
            return vectors_of(await asked(session, endpoint, texts), len(texts))
    except TimeoutError as fault:
        raise unavailable(f"{endpoint.name} did not answer in time.") from fault
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise unavailable(f"{endpoint.name} sent something that is no list of vectors.") from fault
    except (aiohttp.ClientError, OSError, ValueError) as fault:
        raise unavailable(f"{endpoint.name} cannot be reached.") from fault


async def asked(session: aiohttp.ClientSession, endpoint: Endpoint, texts: Sequence[str]) -> bytes:
    headers = {"content-type": "application/json"}
    if endpoint.key:
        headers["authorization"] = f"Bearer {endpoint.key}"
    body = encode({"model": endpoint.model, "input": texts, "encoding_format": "base64"})
    url = f"{endpoint.base_url}/embeddings"
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        if response.status != 200:
            raise refusal_of(endpoint, response.status, response.headers.get("retry-after", ""))
        answer = bytearray()
        async for data in response.content.iter_any():
            answer += data
            if len(answer) > MOST_ANSWER_BYTES:
                raise unavailable(f"{endpoint.name} sent more than vectors can be.")
        return bytes(answer)


def refusal_of(endpoint: Endpoint, status: int, retry_after: str) -> Refusal:
    if status == 429:
        pause_s = min(int(retry_after), MOST_PAUSE_S) if retry_after.isdecimal() else 1
        return Exhausted("MODEL_BUSY", f"{endpoint.name} has too much to do. Ask again.", retry_after_s=pause_s)
    if status in (400, 413, 422):
        return Invalid("REQUEST_INVALID", f"{endpoint.name} did not accept the texts (status {status}).")
    if status in (401, 403):
        return unavailable(f"{endpoint.name} refused its key.")
    return unavailable(f"{endpoint.name} answered with status {status}.")


def unavailable(sentence: str) -> Unavailable:
    return Unavailable("MODEL_UNAVAILABLE", sentence, retry_after_s=REST_S)


def vectors_of(answer: bytes, texts: int) -> Vectors:
    """The answer, when it is one finite vector a text, all of one length. Raises msgspec.ValidationError otherwise."""
    said = decode(answer)
    items = sorted(said.data, key=lambda item: item.index)
    vectors = [vector_of(item.embedding) for item in items]
    if [item.index for item in items] != list(range(texts)):
        raise msgspec.ValidationError("not one vector a text")
    if len({len(vector) for vector in vectors}) != 1 or not all(vector and isfinite(sum(vector)) for vector in vectors):
        raise msgspec.ValidationError("not vectors of finite numbers")
    tokens = said.usage.prompt_tokens if said.usage else -1
    return Vectors(vectors, tokens if tokens >= 0 else None)


def vector_of(embedding: str | list[float]) -> Vector:
    try:
        return array("f", embedding if isinstance(embedding, list) else b64decode(embedding, validate=True))
    except (ValueError, OverflowError) as fault:
        raise msgspec.ValidationError("not a vector") from fault


@dataclass(slots=True)
class Cache:
    """Vectors by the hash of their text, those that were asked for last."""

    most: int = MOST_CACHED
    most_bytes: int = MOST_CACHED_BYTES
    known: OrderedDict[bytes, Vector] = field(default_factory=OrderedDict)
    size_bytes: int = 0

    def get(self, key: bytes) -> Vector | None:
        vector = self.known.get(key)
        if vector is not None:
            self.known.move_to_end(key)
        return vector

    def keep(self, key: bytes, vector: Vector) -> None:
        if key not in self.known:
            self.known[key] = vector
            self.size_bytes += cost(vector)
        while len(self.known) > self.most or self.size_bytes > self.most_bytes:
            _, oldest = self.known.popitem(last=False)
            self.size_bytes -= cost(oldest)


def cost(vector: Vector) -> int:
    return len(vector) * vector.itemsize + ENTRY_BYTES


@dataclass(slots=True, eq=False)
class Embedder:
    """The vectors of prompts, for decisions."""

    session: aiohttp.ClientSession
    endpoint: Endpoint
    patience_s: float = PATIENCE_S
    rest_s: float = REST_S
    cache: Cache = field(default_factory=Cache)
    flights: dict[bytes, asyncio.Task[Vector | None]] = field(default_factory=dict)
    rests_until: float = 0.0
    is_hurt: bool = False
    """The last question failed."""

    async def vector(self, text: str) -> Vector | None:
        """The vector of a prompt, or None when there is none within `patience_s`: at once while the server is away or
        has enough to do. It may be there for the same prompt later."""
        if not (text := gist(text)) or not self.endpoint.base_url:
            return None
        key = sha256(text.encode("utf-8", "surrogatepass")).digest()
        if (known := self.cache.get(key)) is not None:
            return known
        flight = self.flights.get(key) or self._start(key, text)
        if flight is None:
            return None
        done, _ = await asyncio.wait([flight], timeout=self.patience_s)
        return flight.result() if done and not flight.cancelled() else None

    async def end(self) -> None:
        for flight in (flights := list(self.flights.values())):
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _start(self, key: bytes, text: str) -> asyncio.Task[Vector | None] | None:
        """Ask, unless there would be no answer soon."""
        if monotonic() < self.rests_until or len(self.flights) >= (1 if self.is_hurt else MOST_FLIGHTS):
            return None
        flight = self.flights[key] = asyncio.create_task(self._fly(key, text), name="embedding")
        flight.add_done_callback(lambda _: self.flights.pop(key, None))
        return flight

    async def _fly(self, key: bytes, text: str) -> Vector | None:
        """Ask, and remember: the vector, or how it is with the server."""
        try:
            (vector,) = (await vectors_from(self.session, self.endpoint, [text], FLIGHT_S)).vectors
        except Invalid:
            return None
        except Refusal as refusal:
            self.is_hurt = True
            pause_s = refusal.retry_after_s if isinstance(refusal, Exhausted) else None
            self.rests_until = monotonic() + (pause_s or self.rest_s)
            return None
        self.is_hurt = False
        self.cache.keep(key, vector)
        return vector


@asynccontextmanager
async def open_embedder(base_url: str) -> AsyncIterator[Embedder]:
    """Of the local model process, with connections of its own. Nothing waits for it; an empty URL is none."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    endpoint = Endpoint("The embedding model", base_url.rstrip("/"), LOCAL_MODEL)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    ) as session:
        embedder = Embedder(session, endpoint)
        try:
            yield embedder
        finally:
            await embedder.end()
