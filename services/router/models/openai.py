"""The wire of OpenAI's chat completions: OpenAI, Groq, Hugging Face, Mistral, vLLM, Ollama, llama.cpp and their like.

What one network read returned becomes one piece of text: under load pieces grow, and nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import Any

import aiohttp
import msgspec

from services.router.models import Broken, End, Prompt
from services.router.models.chunks import Arriving, take
from services.router.offers import Provider

CONNECT_S = 3.0
MOST_ANSWER_BYTES = 256 * 1024
MOST_COMPLAINT_BYTES = 16 * 1024
AFTER_FINISH_S = 2.0
GOODBYE_S = 0.05
LOOK_AGAIN_S = 1.0
USUAL_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
CONNECTIONS = 512
encode = msgspec.json.Encoder().encode
TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The adapter. The session is one for all providers, so that connections are kept and bounded."""

    session: aiohttp.ClientSession
    most_answer_bytes: int = MOST_ANSWER_BYTES

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | End]:
        provider, limits = prompt.offer.provider, prompt.offer.provider.limits
        began = monotonic()
        first_by, over_by = began + limits.first_text_s, began + limits.total_s
        answer = Arriving()
        async with self._post(prompt, first_by) as response:
            await refuse_complaint(provider, response)
            with Patience(response, first_by) as patience:
                while not answer.is_over:
                    if answer.finish_reason:
                        patience.until(monotonic() + AFTER_FINISH_S)
                    elif answer.text_bytes:
                        patience.until(min(over_by, monotonic() + limits.idle_s))
                    data = await read(response, patience, provider, answer)
                    if not data:
                        break
                    text = take(answer, data, provider.name)
                    if text:
                        yield self._bounded(answer, text)
                    if answer.broken:
                        raise answer.broken
            await finish(response)
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
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
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
            if response.content.at_eof():
                response.release()
            else:
                response.close()


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


class Patience:
    """Closes a response that has been waited for too long. One timer an answer: a timeout around each read would cost a
    third of the read."""

    __slots__ = ("_due", "_loop", "_response", "_rings", "_timer", "is_over", "is_waiting")

    def __init__(self, response: aiohttp.ClientResponse, due: float) -> None:
        self._response, self._loop = response, asyncio.get_running_loop()
        self._due = self._rings = due
        self.is_over = False
        self.is_waiting = False
        """A read is under way. A slow listener is not the provider's fault."""
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._look)

    def until(self, due: float) -> None:
        """Wait until then. A timer that rings too early looks again; one that would ring too late is set anew."""
        self._due = due
        if due < self._rings:
            self._set()

    def __enter__(self) -> Patience:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _set(self) -> None:
        self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_later(max(0.0, self._due - monotonic()), self._look)

    def _look(self) -> None:
        if not self.is_waiting:
            self._due = monotonic() + LOOK_AGAIN_S
        if monotonic() < self._due:
            return self._set()
        self.is_over = True
        return self._response.close()


async def read(response: aiohttp.ClientResponse, patience: Patience, provider: Provider, answer: Arriving) -> bytes:
    """What the network has now; empty at the end of an answer that is whole. Raises Broken for one that is not."""
    patience.is_waiting = True
    try:
        data = await response.content.readany()
    except (aiohttp.ClientError, OSError) as fault:
        if answer.finish_reason:
            return b""
        what = "fell silent" if patience.is_over else "broke the connection"
        raise Broken(f"{provider.name} {what}.") from fault
    finally:
        patience.is_waiting = False
    if not data and not answer.finish_reason:
        what = "ended the answer in the middle" if answer.text_bytes else "sent no answer"
        raise Broken(f"{provider.name} {what}.")
    return data


async def finish(response: aiohttp.ClientResponse) -> None:
    """Read what stands behind the answer, if it is there soon: then the connection can serve the next one."""
    try:
        async with asyncio.timeout(GOODBYE_S):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()


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
