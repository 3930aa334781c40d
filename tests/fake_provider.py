"""A provider that speaks OpenAI's wire as told, well or badly; Anthropic's too, when it is given the stream. Who asks
with `"stream": false` gets the same words in one body.

Deterministic; used in process, or as a process:

    python -m tests.fake_provider --port 9999 --words 64 --pace-ms 50 --cut-after 10

It says `word1 word2 …`, one chunk a word. POST /behave with the JSON of some of the same fields changes its manners
while it runs; GET /asked returns how many answers it was asked for, GET /asked/last the body of the last request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace

from aiohttp import web

PING_MS = 20
JSON = "application/json"
RUBBISH = {
    "html": b"<html><body>It works!</body></html>",
    "text": b"nothing that anybody reads\n\n",
    "half-json": b'data: {"choices": [{"delta": {"content": "wor',
    "bad-json": b'data: {"choices": [{"delta": \n\n',
    "wrong-shape": b'data: {"choices": "no", "delta": 7}\n\n',
    "error": b'data: {"error": {"message": "I am unwell", "type": "server_error"}}\n\n',
    "only-done": b"data: [DONE]\n\n",
    "endless-line": b"data: " + b"x" * (2 * 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How it answers. The default is well."""

    words: int = 8
    word_bytes: int = 0
    """The length to which each word is filled up; 0 for as it is."""
    pace_ms: float = 0
    """Between two words."""
    wait_ms: float = 0
    """Before the first."""
    joined: int = 1
    """Chunks a write."""
    status: int = 200
    retry_after: str = ""
    location: str = ""
    """Where a redirect leads."""
    complaint: str = "no"
    """The body of an answer that is not 200."""
    rubbish: str = ""
    """Instead of an answer, or after `rubbish_after` words."""
    rubbish_after: int = 0
    cut_after: int = -1
    """Words until the connection is broken; -1 for never."""
    hang_after: int = -1
    """Words until it falls silent; -1 for never."""
    finish: str = "stop"
    """finish_reason; empty for none, with [DONE] right after the text."""
    done: bool = True
    usage: bool = True
    goodbye_ms: float = 0
    """Between the last line and the end of the response."""
    bad_utf8: bool = False
    """Each word ends in a byte that is no UTF-8."""
    crlf: bool = False
    comments: bool = False
    """`: ping` lines between the chunks, and while waiting for the first."""
    split_bytes: int = 0
    """Writes of so many bytes whatever the chunks are; 0 for whole ones."""
    model: str = ""
    """The one that it names in its chunks."""
    raw: str = ""
    """This instead of words: a recorded stream, as it is."""
    content_type: str = "text/event-stream"


@dataclass(slots=True)
class FakeProvider:
    """The application and what it has been asked."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    asked: int = 0
    last: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    hung_up: int = 0
    """Callers that went before the end."""
    cuts: int = 0
    """Connections that it broke."""
    connections: set[object] = field(default_factory=set)
    """Where the callers called from."""
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def application(self) -> web.Application:
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_post("/v1/chat/completions", self.complete)
        application.router.add_post("/v1/messages", self.complete)
        application.router.add_post("/behave", self.behave)
        application.router.add_get("/asked", self.tell_asked)
        application.router.add_get("/asked/last", self.tell_last)
        return application

    async def behave(self, request: web.Request) -> web.Response:
        self.behaviour = replace(self.behaviour, **await request.json())
        return web.json_response(asdict(self.behaviour))

    async def tell_asked(self, request: web.Request) -> web.Response:
        return web.json_response(self.asked)

    async def tell_last(self, request: web.Request) -> web.Response:
        return web.json_response(self.last)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.connections.add(request.transport and request.transport.get_extra_info("peername"))
        self.last, self.headers = await request.json(), dict(request.headers)
        be = self.behaviour
        if be.status != 200:
            headers = {"retry-after": be.retry_after, "location": be.location}
            return web.Response(status=be.status, text=be.complaint, headers={k: v for k, v in headers.items() if v})
        whole = self.last.get("stream") is False and not be.raw
        kind = "text/html" if be.rubbish == "html" else JSON if whole else be.content_type
        response = web.StreamResponse(headers={"content-type": kind})
        await response.prepare(request)
        try:
            await (self._say_all if whole else self._speak)(request, response, be)
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up += 1
            raise
        return response

    async def _speak(self, request: web.Request, response: web.StreamResponse, be: Behaviour) -> None:
        for _ in range(int(be.wait_ms // PING_MS) if be.comments else 0):
            await response.write(b": ping\n\n")
            await asyncio.sleep(PING_MS / 1000)
        await asyncio.sleep(0 if be.comments else be.wait_ms / 1000)
        if be.raw:
            return await self._send(response, be, [be.raw.encode("utf-8", "surrogateescape")])
        held: list[bytes] = []
        for n in range(be.words + 1):
            if be.cut_after == n:
                await self._send(response, be, held)
                return self._cut(request)
            if be.hang_after == n:
                await self._send(response, be, held)
                await asyncio.sleep(3600)
            if be.rubbish and be.rubbish_after == n:
                await response.write(b"".join(held) + RUBBISH[be.rubbish])
                return None
            if n < be.words:
                held.append(chunk(be, n + 1))
            if len(held) == be.joined:
                await self._send(response, be, held)
                if be.pace_ms:
                    await asyncio.sleep(be.pace_ms / 1000)
        held.extend(ending(be))
        await self._send(response, be, held)
        return await asyncio.sleep(be.goodbye_ms / 1000)

    async def _say_all(self, request: web.Request, response: web.StreamResponse, be: Behaviour) -> None:
        """In one body, after the time that the stream would have taken. It is cut, or stalls, in its middle."""
        for _ in range(int(be.wait_ms // PING_MS) if be.comments else 0):
            await response.write(b"\n")
            await asyncio.sleep(PING_MS / 1000)
        await asyncio.sleep((0 if be.comments else be.wait_ms / 1000) + be.words * be.pace_ms / 1000)
        body = RUBBISH[be.rubbish].removeprefix(b"data: ") if be.rubbish else whole_of(be)
        if be.cut_after < 0 and be.hang_after < 0:
            return await self._send(response, be, [body])
        await self._send(response, be, [body[: len(body) // 2]])
        if be.cut_after >= 0:
            return self._cut(request)
        return await asyncio.sleep(3600)

    async def _send(self, response: web.StreamResponse, be: Behaviour, held: list[bytes]) -> None:
        data = b"".join(held)
        held.clear()
        if be.crlf:
            data = data.replace(b"\n", b"\r\n")
        step = be.split_bytes or max(1, len(data))
        for start in range(0, len(data), step):
            await response.write(data[start : start + step])
            if be.split_bytes:
                await asyncio.sleep(0)

    def _cut(self, request: web.Request) -> None:
        """Hang up in the middle of a chunk."""
        self.cuts += 1
        if request.transport:
            request.transport.close()


def word(be: Behaviour, number: int) -> str:
    return ("" if number == 1 else " ") + f"word{number}".ljust(be.word_bytes, "x")


def said(be: Behaviour) -> str:
    """What a good answer says."""
    return "".join(word(be, n) for n in range(1, be.words + 1))


def chunk(be: Behaviour, number: int) -> bytes:
    delta: dict[str, object] = {
        "id": "c",
        "choices": [{"index": 0, "delta": {"content": word(be, number)}, "finish_reason": None}],
    }
    raw = json.dumps(delta | ({"model": be.model} if be.model else {})).encode()
    if be.bad_utf8:
        raw = raw.replace(b'"}, "finish', b'\xff"}, "finish')
    return (b": ping\n\n" if be.comments else b"") + b"data: " + raw + b"\n\n"


def whole_of(be: Behaviour) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": said(be)}, "finish_reason": be.finish or None}
    body: dict[str, object] = {"id": "c", "object": "chat.completion", "choices": [choice]}
    if be.model:
        body["model"] = be.model
    if be.usage:
        body["usage"] = {"prompt_tokens": 11, "completion_tokens": be.words}
    raw = json.dumps(body).encode()
    return raw.replace(b'"}, "finish', b'\xff"}, "finish') if be.bad_utf8 else raw


def ending(be: Behaviour) -> list[bytes]:
    lines: list[dict[str, object]] = []
    if be.finish:
        lines.append({"choices": [{"index": 0, "delta": {}, "finish_reason": be.finish}]})
    if be.usage:
        lines.append({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": be.words}})
    sent = [b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines]
    return [*sent, b"data: [DONE]\n\n"] if be.done else sent


@asynccontextmanager
async def open_fake_provider(behaviour: Behaviour = Behaviour(), port: int = 0) -> AsyncIterator[FakeProvider]:
    """The provider on a port of loopback."""
    fake = FakeProvider(behaviour)
    runner = web.AppRunner(fake.application(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        fake.port = runner.addresses[0][1]
        yield fake
    finally:
        await runner.cleanup()


async def serve(port: int, behaviour: Behaviour) -> None:
    async with open_fake_provider(behaviour, port) as fake:
        print(f"fake provider on {fake.base_url}", flush=True)
        await asyncio.Event().wait()


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="A provider that speaks OpenAI's wire as told.")
    parser.add_argument("--port", type=int, default=0)
    for one in fields(Behaviour):
        flag = f"--{one.name.replace('_', '-')}"
        default = getattr(Behaviour(), one.name)
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(flag, type=type(default), default=default)
    told = vars(parser.parse_args(words))
    port = told.pop("port")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(port, Behaviour(**told)))


if __name__ == "__main__":
    main(sys.argv[1:])
