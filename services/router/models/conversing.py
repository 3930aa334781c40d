"""One question to a provider over HTTP, and its stream. What is asked and what is said, each wire knows.

Of a stream, what one network read returned becomes one piece of text: under load, and of a quick stream, pieces grow.
Answers in one piece are in whole.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler

from services.common.telemetry import log
from services.router.models import Broken, End, Piece, Prompt, Reasoning, Refusing
from services.router.models.arriving import Arriving
from services.router.models.patience import Pace, Patience, finish, read
from services.router.models.refusals import refuse_complaint

MOST_REASONING_BYTES = 1024 * 1024
AFTER_FINISH_S = 2.0
ON_ITS_WAY_S = 1.0
CONNECTIONS = 4096
MOST_NOTICED = 256
JSON, EVENTS = "application/json", "text/event-stream"


@dataclass(frozen=True, slots=True)
class Request:
    url: str
    headers: Mapping[str, str]
    body: bytes


class Notices(set[tuple[str, str, str]]):
    """Models that answered in the place of another, each said once in the log."""

    def add_from(self, answer: Arriving) -> None:
        found = answer.provider, answer.model, answer.answered_by[:256]
        if is_same(answer.model, answer.answered_by) or found in self or len(self) >= MOST_NOTICED:
            return
        self.add(found)
        log().warning("another model answered", provider=found[0], asked=found[1], answered=found[2])


class Wire(Protocol):
    """How a kind of providers is asked and understood."""

    @property
    def session(self) -> aiohttp.ClientSession: ...
    @property
    def most_answer_bytes(self) -> int: ...
    @property
    def notices(self) -> Notices: ...

    def request(self, prompt: Prompt) -> Request:
        """Raises Broken for what cannot be asked."""
        ...

    def answer(self, prompt: Prompt) -> Arriving: ...


async def converse(wire: Wire, prompt: Prompt) -> AsyncGenerator[Piece | End]:
    """What the model says, then its End. Raises Broken."""
    limits = prompt.offer.provider.limits
    began = monotonic()
    first_by, over_by = began + limits.first_text_s, began + limits.total_s
    answer, bounds = wire.answer(prompt), Bounds(wire.most_answer_bytes)
    async with posted(wire.session, wire.request(prompt), prompt, first_by) as response:
        await refuse_complaint(answer.provider, response)
        pace = Pace(response)
        with Patience(response, first_by) as patience:
            while not answer.is_over:
                if answer.finish_reason:
                    patience.until(monotonic() + AFTER_FINISH_S)
                elif answer.has_said:
                    await pace.gather()
                    patience.until(min(over_by, monotonic() + limits.idle_s))
                data = await read(response, patience, answer)
                if not data:
                    break
                pace.has_read()
                for piece in answer.take(data):
                    bounded = bounds.within(piece)
                    if bounded:
                        yield bounded
                    if bounds.is_full:
                        answer.finish_reason, answer.is_over, answer.broken = "length", True, None
                        break
                if answer.broken:
                    raise answer.broken
        await finish(response)
    wire.notices.add_from(answer)
    yield answer.end()


@dataclass(slots=True)
class Bounds:
    """What an answer may still have. Arguments of tools are bounded where they are put together."""

    text_bytes: int
    reasoning_bytes: int = MOST_REASONING_BYTES
    is_full: bool = False

    def within(self, piece: Piece) -> Piece:
        """The piece, or as much of it as there is room for: then the answer is over."""
        if isinstance(piece, str):
            self.text_bytes -= len(piece) if piece.isascii() else len(piece.encode())
            return piece if self.text_bytes >= 0 else self._cut(piece, self.text_bytes)
        if isinstance(piece, (Reasoning, Refusing)):
            self.reasoning_bytes -= len(piece.text.encode())
            return piece if self.reasoning_bytes >= 0 else self._cut("", 0)
        return piece

    def _cut(self, text: str, surplus: int) -> str:
        self.is_full = True
        return text.encode()[:surplus].decode("utf-8", "ignore") if text else ""


@asynccontextmanager
async def posted(
    session: aiohttp.ClientSession, request: Request, prompt: Prompt, head_by: float
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response once its head is there. A fault until then is told in a sentence."""
    name, limits = prompt.offer.provider.name, prompt.offer.provider.limits
    patience = aiohttp.ClientTimeout(total=None, connect=limits.connect_s)
    send = partial(
        session.post, request.url, data=request.body, headers=request.headers, allow_redirects=False, timeout=patience
    )
    try:
        async with asyncio.timeout(head_by - monotonic()):
            response = await sent(send)
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as fault:
        raise Broken(f"{name} cannot be reached.") from fault
    except TimeoutError as fault:
        raise Broken(f"{name} did not answer in time.") from fault
    except (aiohttp.ClientError, OSError, ValueError) as fault:
        raise Broken(f"{name} cannot be reached.") from fault
    try:
        yield response
    finally:
        if response.content.at_eof():
            response.release()
        else:
            response.close()


@dataclass(slots=True)
class Line:
    is_kept: bool = False
    """It had served another question."""


async def sent(send: Callable[..., Awaitable[aiohttp.ClientResponse]]) -> aiohttp.ClientResponse:
    """A provider may let go of a kept connection while a question is on its way there: then it is asked on another. One
    that is dropped later may have been read."""
    while True:
        line, began = Line(), monotonic()
        try:
            return await send(trace_request_ctx=line)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if not line.is_kept or monotonic() - began > ON_ITS_WAY_S:
                raise


async def keep(_session: object, context: Any, _facts: object) -> None:
    if isinstance(context.trace_request_ctx, Line):
        context.trace_request_ctx.is_kept = True


def is_same(asked: str, answered: str) -> bool:
    """A dated name, one without its maker, or none at all, is the same model's."""
    if not answered:
        return True
    one, other = (
        name.lower().rpartition("/")[2].partition(":")[0].removesuffix("-latest") for name in (asked, answered)
    )
    return one.startswith(other) or other.startswith(one)


class Unhurried(ResponseHandler):
    """A connection that goes on reading only where it had stopped. aiohttp's own is told to go on at each chunk that is
    taken, and parses nothing each time: 5 % of what a stream costs the router."""

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Kept connections for all providers. No proxy, cookies or redirects: a key goes to its host alone."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, limit_per_host=0, ttl_dns_cache=60, keepalive_timeout=30)
    connector._factory = partial(Unhurried, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(keep)
    async with aiohttp.ClientSession(
        connector=connector,
        trace_configs=[trace],
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield session
