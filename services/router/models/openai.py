"""The wire of OpenAI's chat completions: OpenAI, Groq, Hugging Face, Mistral, vLLM, Ollama, llama.cpp and their like.

What one network read returned becomes one piece of text: under load pieces grow, and nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import isfinite
from time import monotonic
from typing import Any

import aiohttp
import msgspec

from services.router.models import Broken, End, Prompt
from services.router.offers import Provider

CONNECT_S = 3.0
MOST_ANSWER_BYTES = 256 * 1024
MOST_LINE_BYTES = 1024 * 1024
MOST_COMPLAINT_BYTES = 16 * 1024
AFTER_FINISH_S = 2.0
USUAL_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
CONNECTIONS = 512
FINISHES = {"stop": "stop", "length": "length", "max_tokens": "length", "content_filter": "content_filter"}
TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")


class Delta(msgspec.Struct, gc=False):
    content: str | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None


class Counted(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Chunk(msgspec.Struct, gc=False):
    """One `data:` of the stream."""

    choices: list[Choice] | None = None
    usage: Counted | None = None
    error: Any = None


decode = msgspec.json.Decoder(Chunk).decode
encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Arriving:
    """What has come so far."""

    finish_reason: str = ""
    usage: Counted | None = None
    is_over: bool = False
    """[DONE] came."""
    text_bytes: int = 0
    rest: bytes = b""
    """The beginning of a line whose end has not come."""
    broken: Broken | None = None
    """What ends the answer once the text before it is passed on."""

    def end(self) -> End:
        if self.usage is None:
            return End(self.finish_reason or "stop")
        return End(self.finish_reason or "stop", self.usage.prompt_tokens, self.usage.completion_tokens)


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The adapter. The session is one for all providers, so that connections are kept and bounded."""

    session: aiohttp.ClientSession
    connect_s: float = CONNECT_S
    most_answer_bytes: int = MOST_ANSWER_BYTES
    headers: Mapping[str, str] = field(default_factory=dict)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | End]:
        provider, limits = prompt.offer.provider, prompt.offer.provider.limits
        began = monotonic()
        first_by, over_by = began + limits.first_text_s, began + limits.total_s
        answer = Arriving()
        async with self._post(prompt, first_by) as response:
            await refuse_complaint(provider, response)
            while not answer.is_over:
                now = monotonic()
                until = min(over_by, now + limits.idle_s if answer.text_bytes else first_by)
                data = await read(response, until - now, provider, answer)
                if not data:
                    break
                text = take(answer, data, provider)
                if text:
                    yield self._bounded(answer, text)
                if answer.broken:
                    raise answer.broken
        yield answer.end()

    def _bounded(self, answer: Arriving, text: str) -> str:
        """The text, or as much of it as the answer may still have: then the answer is over."""
        answer.text_bytes += len(text) if text.isascii() else len(text.encode())
        surplus = answer.text_bytes - self.most_answer_bytes
        if surplus <= 0:
            return text
        answer.finish_reason, answer.is_over, answer.broken = "length", True, None
        return text.encode()[:-surplus].decode("utf-8", "ignore")

    @asynccontextmanager
    async def _post(self, prompt: Prompt, first_by: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response once its head is there. A fault until then is told in a sentence."""
        provider = prompt.offer.provider
        headers = {**self.headers, "content-type": "application/json", "accept": "text/event-stream"}
        if provider.key:
            headers["authorization"] = f"Bearer {provider.key}"
        url = f"{provider.base_url}/chat/completions"
        try:
            async with asyncio.timeout(first_by - monotonic()):
                response = await self.session.post(url, data=body(prompt), headers=headers, allow_redirects=False)
        except TimeoutError as fault:
            raise Broken(f"{provider.name} did not answer in time.") from fault
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise Broken(f"{provider.name} cannot be reached.") from fault
        try:
            yield response
        finally:
            response.close() if not response.content.at_eof() else response.release()


def body(prompt: Prompt) -> bytes:
    offer = prompt.offer
    request: dict[str, Any] = {
        **offer.options,
        "model": offer.model,
        "messages": [{"role": m.role, "content": m.text} for m in prompt.messages],
        "stream": True,
        offer.provider.max_tokens_field: prompt.max_tokens,
    }
    if offer.provider.asks_usage:
        request["stream_options"] = {"include_usage": True}
    return encode(request)


async def read(response: aiohttp.ClientResponse, within_s: float, provider: Provider, answer: Arriving) -> bytes:
    """What the network has now; empty at the end of an answer that is whole. Raises Broken for one that is not."""
    try:
        async with asyncio.timeout(min(within_s, AFTER_FINISH_S) if answer.finish_reason else within_s):
            data = await response.content.readany()
    except TimeoutError as fault:
        if answer.finish_reason:
            return b""
        raise Broken(f"{provider.name} fell silent.") from fault
    except (aiohttp.ClientError, OSError) as fault:
        if answer.finish_reason:
            return b""
        raise Broken(f"{provider.name} broke the connection.") from fault
    if not data and not answer.finish_reason:
        what = "ended the answer in the middle" if answer.text_bytes else "sent no answer"
        raise Broken(f"{provider.name} {what}.")
    return data


def take(answer: Arriving, data: bytes, provider: Provider) -> str:
    """The text of the whole lines in `data`, up to what is no chunk: that is left in `answer.broken`."""
    *lines, answer.rest = (answer.rest + data if answer.rest else data).split(b"\n")
    pieces: list[str] = []
    try:
        for line in lines:
            if line.startswith(b"data:"):
                take_line(answer, line[5:].strip(), pieces, provider)
            elif line.startswith((b"<", b"{", b"[")):
                raise Broken(f"{provider.name} sent something that is no event stream.")
            if answer.is_over:
                break
        if len(answer.rest) > MOST_LINE_BYTES:
            raise Broken(f"{provider.name} sent a line without end.")
    except Broken as broken:
        answer.broken = broken
    return "".join(pieces)


def take_line(answer: Arriving, line: bytes, pieces: list[str], provider: Provider) -> None:
    if line == b"[DONE]":
        answer.is_over = True
        if not answer.finish_reason and not answer.text_bytes and not pieces:
            raise Broken(f"{provider.name} sent no answer.")
        return
    chunk = chunk_of(line, provider)
    if chunk.error is not None:
        raise Broken(f"{provider.name} reported an error of its own.")
    if chunk.usage is not None:
        answer.usage = chunk.usage
    for choice in (chunk.choices or ())[:1]:
        if choice.delta and choice.delta.content:
            pieces.append(choice.delta.content)
        if choice.finish_reason:
            answer.finish_reason = FINISHES.get(choice.finish_reason, "stop")


def chunk_of(line: bytes, provider: Provider) -> Chunk:
    """The chunk of one line. Bytes that are no UTF-8 become U+FFFD; what is no JSON is refused."""
    try:
        return decode(line)
    except UnicodeDecodeError:
        line = line.decode("utf-8", "replace").encode()
    except msgspec.MsgspecError as fault:
        raise Broken(f"{provider.name} sent something that is no answer.") from fault
    try:
        return decode(line)
    except msgspec.MsgspecError as fault:
        raise Broken(f"{provider.name} sent something that is no answer.") from fault


async def refuse_complaint(provider: Provider, response: aiohttp.ClientResponse) -> None:
    """Raise Broken unless the response is a stream to be read. The body of a complaint is read, never shown."""
    status = response.status
    if status == 200 and not response.content_type.startswith(("application/json", "text/html")):
        return
    if status == 200:
        raise Broken(f"{provider.name} sent something that is no event stream.")
    if status in (401, 403):
        raise Broken(f"{provider.name} refused its key. Give it a new one: soma provider add {provider.name} …")
    if status == 429:
        pause_s = pause_of(response.headers.get("retry-after", ""))
        raise Broken(f"{provider.name} has too much to do.", reason="MODEL_BUSY", blames_model=False, pause_s=pause_s)
    if status in (400, 413, 422):
        raise await complaint(provider, response)
    raise Broken(f"{provider.name} answered with status {status}.")


async def complaint(provider: Provider, response: aiohttp.ClientResponse) -> Broken:
    try:
        async with asyncio.timeout(AFTER_FINISH_S):
            said = await response.content.read(MOST_COMPLAINT_BYTES)
    except (TimeoutError, aiohttp.ClientError, OSError):
        said = b""
    if any(code.encode() in said for code in TOO_LONG_CODES):
        sentence = f"The message is too long for {provider.name}. Shorten it."
        return Broken(sentence, reason="CONTEXT_TOO_LONG", blames_model=False)
    return Broken(f"{provider.name} did not accept the request (status {response.status}).", blames_model=False)


def pause_of(retry_after: str) -> float:
    """The header's seconds, 1 to 300; 5 when it says none. A date counts as none."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return USUAL_PAUSE_S
    return min(max(seconds, 1.0), LONGEST_PAUSE_S) if isfinite(seconds) else USUAL_PAUSE_S


@asynccontextmanager
async def open_openai() -> AsyncIterator[OpenAI]:
    """The adapter with its connections. No proxy, cookies or redirects: a key goes to its host alone."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, limit_per_host=0, ttl_dns_cache=60, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    ) as session:
        yield OpenAI(session)
